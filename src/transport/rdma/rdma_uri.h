// rdma://HOST:PORT,rdma://ADDRESS[:PORT],...
#ifndef FAULTLINE_TRANSPORT_RDMA_RDMA_URI_H_
#define FAULTLINE_TRANSPORT_RDMA_RDMA_URI_H_

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "transport/tcp/tcp_uri.h"

namespace faultline {

struct RdmaUri {
  TcpUri first;
  std::vector<TcpUri> rails;  // after the first; port 0: the first one's
};

inline constexpr std::string_view kRdmaScheme = "rdma://";

// InvalidArgument names the text and the form: also one address twice, and more than there may be.
absl::StatusOr<RdmaUri> ParseRdmaUri(std::string_view text);

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_RDMA_URI_H_
