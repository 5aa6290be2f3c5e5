#include "assembly/transport_uri.h"

#include <fmt/format.h>

namespace faultline {

absl::StatusOr<TcpUri> CheckedTcpUri(const std::string& uri, bool insecure) {
  if (uri.starts_with("rdma://")) {
    return absl::InvalidArgumentError(
        fmt::format("'{}': this release has no RDMA transport; use tcp://HOST:PORT", uri));
  }
  ASSIGN_OR_RETURN(TcpUri tcp, ParseTcpUri(uri));
  if (!insecure && !IsLoopback(tcp)) {
    return absl::InvalidArgumentError(fmt::format(
        "'{}' is beyond this host, and plain TCP carries the guest's memory readable and "
        "unauthenticated; give --insecure on both sides if the network is trusted",
        uri));
  }
  return tcp;
}

}  // namespace faultline
