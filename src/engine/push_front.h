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
// Thread safety: Note and Clear on one thread, position on any.
class PushFront {
 public:
  // The bulk lane has brought `run`.
  void Note(PageRun run) {
    next_.store((uint64_t{run.region} << kIndexBits) | run.end(), std::memory_order_relaxed);
  }

  // It brings nothing more for now.
  void Clear() { next_.store(kNothing, std::memory_order_relaxed); }

  // Where it is; another value as soon as something more has come.
  uint64_t position() const { return next_.load(std::memory_order_relaxed); }

  // How far ahead `page` is if the push goes on in order from `position`: 1 is the very next one.
  // 0: it is none of the first `window_pages`.
  static uint64_t PagesAway(uint64_t position, PageId page, uint64_t window_pages) {
    if (position == kNothing || page.region != position >> kIndexBits) return 0;
    const uint64_t first = position & kIndexMask;
    if (page.index < first || page.index - first >= window_pages) return 0;
    return page.index - first + 1;
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
