#include "transport/rdma/rail_choice.h"

#include <tuple>

namespace faultline {

std::optional<size_t> ChooseRail(std::span<const RailLoad> rails) {
  std::optional<size_t> best;
  for (size_t rail = 0; rail < rails.size(); ++rail) {
    const RailLoad& load = rails[rail];
    if (!load.has_room) continue;
    if (!best.has_value() || std::tie(load.under_way, load.bytes) <
                                 std::tie(rails[*best].under_way, rails[*best].bytes)) {
      best = rail;
    }
  }
  return best;
}

}  // namespace faultline
