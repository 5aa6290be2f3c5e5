#include "transport/rdma/rdma_uri.h"

#include <fmt/format.h>

#include <algorithm>

#include "transport/rdma/rail_places.h"

namespace faultline {
namespace {

absl::StatusOr<TcpUri> ParseOne(std::string_view text, bool is_first) {
  if (!text.starts_with(kRdmaScheme)) {
    return absl::InvalidArgumentError(fmt::format(
        "'{}' does not begin with rdma://; several rails are written rdma://192.0.2.7:4444,"
        "rdma://198.51.100.7",
        text));
  }
  const std::string tcp = fmt::format("tcp://{}", text.substr(kRdmaScheme.size()));
  absl::StatusOr<TcpUri> uri = ParseTcpUri(tcp);
  if (uri.ok() || is_first) return uri;
  // Of a further rail the port may be left out.
  absl::StatusOr<TcpUri> without_port = ParseTcpUri(tcp + ":0");
  return without_port.ok() ? without_port : uri;
}

}  // namespace

absl::StatusOr<RdmaUri> ParseRdmaUri(std::string_view text) {
  RdmaUri parsed;
  std::vector<TcpUri> all;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    absl::StatusOr<TcpUri> uri = ParseOne(text.substr(begin, end - begin), begin == 0);
    if (!uri.ok()) return Annotate(uri.status(), std::string(text));
    if (std::ranges::find(all, *uri) != all.end()) {
      return absl::InvalidArgumentError(fmt::format(
          "'{}' names {} twice: each rail has an address of its own", text, uri->host_port()));
    }
    all.push_back(*std::move(uri));
    begin = end + 1;
  }
  if (all.size() > kRdmaRailsMax) {
    return absl::InvalidArgumentError(
        fmt::format("'{}' names {} rails, and there may be {}", text, all.size(), kRdmaRailsMax));
  }
  parsed.first = all.front();
  parsed.rails.assign(all.begin() + 1, all.end());
  return parsed;
}

}  // namespace faultline
