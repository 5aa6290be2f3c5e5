// Which RDMA devices this host has.
#ifndef FAULTLINE_TRANSPORT_RDMA_RDMA_DEVICES_H_
#define FAULTLINE_TRANSPORT_RDMA_RDMA_DEVICES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"

namespace faultline {

struct RdmaPort {
  std::string device;  // "mlx5_0"
  int port = 0;
  bool active = false;
  std::string state;       // "active", as the verbs library says it
  std::string link_layer;  // "InfiniBand", "Ethernet"
  uint32_t mtu_bytes = 0;
  int reads_max = 0;  // RDMA READs of a peer's at a time
};

// Every port of every device; none is no error. Any thread; milliseconds. Unimplemented: built
// without rdma-core.
absl::StatusOr<std::vector<RdmaPort>> ListRdmaPorts();

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_RDMA_DEVICES_H_
