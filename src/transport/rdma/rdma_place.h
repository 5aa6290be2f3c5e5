// Whether an address leads to the device that the user wants, and which address a GID is.
#ifndef FAULTLINE_TRANSPORT_RDMA_RDMA_PLACE_H_
#define FAULTLINE_TRANSPORT_RDMA_RDMA_PLACE_H_

#include <rdma/rdma_cma.h>

#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "transport/rdma/rdma_tuning.h"
#include "transport/tcp/tcp_socket.h"
#include "transport/tcp/tcp_uri.h"

namespace faultline {

// The addresses of `uri`, whose port 0 stands for `beside`'s port. Never asks the network: NotFound
// if that would be needed.
absl::StatusOr<std::vector<SocketAddress>> RdmaAddressesOf(TcpUri uri, const TcpUri& beside);

// FailedPrecondition: `id` is bound to another device or port than `tuning` names.
absl::Status CheckPlace(const rdma_cm_id& id, const RdmaTuning& tuning);

// Unavailable: the port that `id` is bound to is down, so that nobody would answer.
absl::Status CheckPort(const rdma_cm_id& id);

// From which address this side connects: the one of the GID that `tuning` names, or `otherwise`.
// NotFound: there is no such GID, or it stands for no IP address. `sysfs` is /sys but in tests.
absl::StatusOr<std::optional<SocketAddress>> AddressToUse(const RdmaTuning& tuning,
                                                          std::optional<SocketAddress> otherwise,
                                                          const std::string& sysfs = "/sys");

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_RDMA_PLACE_H_
