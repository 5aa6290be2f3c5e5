// Where the push is: what it will bring next needs nobody to ask for it.
#ifndef FAULTLINE_ENGINE_PUSH_FRONT_H_
#define FAULTLINE_ENGINE_PUSH_FRONT_H_

#include <atomic>
#include <cstdint>

#include "pages/memory_layout.h"
#include "pages/page_types.h"

namespace faultline {

// A guest that goes through its memory in order, on a slow link, stands still at every page until
// the push brings it, and that page is under way already. To ask for it would only send it twice.
//
// Thread safety: Note and Clear on one thread, IsNext on any.
class PushFront {
 public:
  // The bulk lane has brought `run`.
  void Note(PageRun run) {
    next_.store((uint64_t{run.region} << kIndexBits) | run.end(), std::memory_order_relaxed);
  }

  // It brings nothing more for now.
  void Clear() { next_.store(kNothing, std::memory_order_relaxed); }

  // Whether `page` is among the `window_pages` that come next if the push goes on in order.
  bool IsNext(PageId page, uint64_t window_pages) const {
    const uint64_t next = next_.load(std::memory_order_relaxed);
    if (next == kNothing || page.region != next >> kIndexBits) return false;
    const uint64_t first = next & kIndexMask;
    return page.index >= first && page.index - first < window_pages;
  }

 private:
  static constexpr int kIndexBits = 48;
  static constexpr uint64_t kIndexMask = (uint64_t{1} << kIndexBits) - 1;
  static constexpr uint64_t kNothing = UINT64_MAX;
  static_assert(kRegionsMax <= uint64_t{1} << (64 - kIndexBits));

  std::atomic<uint64_t> next_{kNothing};
};

}  // namespace faultline

#endif  // FAULTLINE_ENGINE_PUSH_FRONT_H_
