// In which order the pusher sends what nobody has asked for yet.
#ifndef FAULTLINE_SEAMS_PUSH_ORDER_H_
#define FAULTLINE_SEAMS_PUSH_ORDER_H_

#include <cstdint>

#include "pages/memory_layout.h"
#include "pages/page_types.h"
#include "pages/write_history.h"
#include "seams/source_memory.h"

namespace faultline {

// Deterministic, no I/O. One thread.
class PushOrder {
 public:
  virtual ~PushOrder() = default;
  // Before Start, which may look at it: when pages were written last on the source; null where that
  // is not known.
  virtual void SetHistory(const WriteHistory* history) { (void)history; }
  // Everything in `map` is to be sent.
  virtual void Start(const MemoryLayout& layout, const AllocationMap& map) = 0;
  // The peer needed this page just now; it has been answered and need not be pushed.
  virtual void OnDemand(PageId page) = 0;
  // The next run to push, of at most `bytes_max` (at least one page); it is then no longer left.
  // Empty when nothing is left.
  virtual PageRun Next(uint64_t bytes_max) = 0;
  virtual uint64_t pages_left() const = 0;
};

}  // namespace faultline

#endif  // FAULTLINE_SEAMS_PUSH_ORDER_H_
