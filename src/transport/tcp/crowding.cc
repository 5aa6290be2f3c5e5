#include "transport/tcp/crowding.h"

#include <algorithm>
#include <map>
#include <string_view>

#include "base/check.h"

namespace faultline {
namespace {

std::string_view HostOf(std::string_view peer) { return peer.substr(0, peer.rfind(':')); }

}  // namespace

size_t WhoHasToGo(std::span<const std::string> peers) {
  FAULTLINE_CHECK(!peers.empty());
  std::map<std::string_view, size_t> waiting;
  for (const std::string& peer : peers) ++waiting[HostOf(peer)];
  const auto crowd = [&](const std::string& peer) { return waiting[HostOf(peer)]; };
  // The first of those with most, which is the oldest.
  return static_cast<size_t>(std::ranges::max_element(peers, {}, crowd) - peers.begin());
}

}  // namespace faultline
