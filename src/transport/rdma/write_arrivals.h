// Which runs that the source writes into granted slots are whole. Pure.
#ifndef FAULTLINE_TRANSPORT_RDMA_WRITE_ARRIVALS_H_
#define FAULTLINE_TRANSPORT_RDMA_WRITE_ARRIVALS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>

#include "base/status.h"
#include "pages/page_types.h"
#include "protocol/messages.h"
#include "transport/rdma/rail_places.h"
#include "transport/rdma/rdma_limits.h"

namespace faultline {

// One thread.
//
// The source names each run on the connection, and sends something behind it on the rail's queue
// pair. Both are in order on each rail, and either may come first: a run is whole when both have
// come, and is given out before its slot is granted again.
class WriteArrivals {
 public:
  struct Run {
    PageRun run;
    size_t bytes = 0;
    WrittenSlot at;
  };

  // The source may write there; it must not have been granted, or its run have been taken.
  void Grant(const WrittenSlot& at);
  // The source says what it writes into which slot. InvalidArgument names the field that breaks the
  // rules: the slot is not granted, or what it is for is named already.
  absl::Status Name(const Run& run);
  // What was sent behind a run has come on `rail`.
  void Arrive(uint16_t rail);

  bool has_whole() const { return !whole_.empty(); }
  const Run& first_whole() const { return whole_.front(); }
  // The first one that is whole; its slot is the destination's own until it is granted again.
  Run TakeFirst();
  // Nothing is named that has not been taken.
  bool idle() const { return outstanding_ == 0; }

 private:
  struct Rail {
    std::array<bool, kRdmaSlotsGranted> is_granted{};
    std::deque<Run> named;   // and not whole yet, in their order
    uint32_t unmatched = 0;  // that have arrived and are not named yet
  };
  void Match(Rail* rail);

  std::array<Rail, kRdmaRailsMax> rails_;
  std::deque<Run> whole_;
  size_t outstanding_ = 0;
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_WRITE_ARRIVALS_H_
