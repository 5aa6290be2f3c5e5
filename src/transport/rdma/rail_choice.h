// Which rail reads the next run. Pure.
#ifndef FAULTLINE_TRANSPORT_RDMA_RAIL_CHOICE_H_
#define FAULTLINE_TRANSPORT_RDMA_RAIL_CHOICE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace faultline {

// One rail, as it is when a run is to be read.
struct RailLoad {
  bool has_room = false;   // it may take one more, and can read this one
  uint32_t under_way = 0;  // READs posted and not done
  uint64_t bytes = 0;      // that it has been given so far
};

// The one with the least under way among those that have room; among equals the one that was given
// the least. None: no rail has room. No rail with room is left idle while a run waits, and a slow
// one, which keeps what it has under way for longer, is given less.
std::optional<size_t> ChooseRail(std::span<const RailLoad> rails);

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_RAIL_CHOICE_H_
