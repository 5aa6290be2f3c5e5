// Which addresses a migration may use, and how its connections are secured.
#ifndef FAULTLINE_ASSEMBLY_ENDPOINT_H_
#define FAULTLINE_ASSEMBLY_ENDPOINT_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "assembly/sessions.h"
#include "base/status.h"
#include "transport/rdma/rdma_tuning.h"
#include "transport/tcp/tcp_uri.h"
#include "transport/tcp/tls_context.h"

namespace faultline {

struct Endpoint {
  TcpUri uri;                             // of the TCP connections
  std::shared_ptr<const TlsContext> tls;  // null: plain TCP
  bool rdma = false;                      // pages are read by RDMA beside it
  std::optional<TcpUri> rdma_uri;         // at another address than `uri`
  std::vector<TcpUri> rdma_rails;         // further addresses of RDMA's
  RdmaTuning tuning;
};

bool IsRdmaUri(const std::string& uri);

// `uri` (tcp://, or rdma:// of one rail or several) for that side of a migration. With a choice of
// secrets its connections are in TLS; without one they are plain on loopback or if `insecure`, and
// in TLS with the certificates of FindCertificates everywhere else. InvalidArgument: another
// scheme, choices that exclude each other, or no certificates beyond loopback. Other errors are
// about the secrets. With rdma.control or several rails all addresses have to be loopback for plain
// connections.
absl::StatusOr<Endpoint> SecureEndpoint(const std::string& uri, bool insecure,
                                        const TlsChoice& choice, TlsRole role,
                                        const RdmaChoice& rdma = {});

// Settles what RDMA decides: pages that are read one-sidedly have no check sum of the source's, and
// are not packed. InvalidArgument: the user asks for one of the two.
absl::Status FitForRdma(IntegrityWish* integrity, Compression compression = Compression::kAuto,
                        MigrationMode mode = MigrationMode::kPostCopy);

// The folder of this host's certificates: /etc/pki/faultline, or else QEMU's /etc/pki/qemu.
// NotFound names both.
absl::StatusOr<std::string> FindCertificates();

}  // namespace faultline

#endif  // FAULTLINE_ASSEMBLY_ENDPOINT_H_
