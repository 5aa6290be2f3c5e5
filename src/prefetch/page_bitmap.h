// Pages of one region that are left to push, one bit each.
#ifndef FAULTLINE_PREFETCH_PAGE_BITMAP_H_
#define FAULTLINE_PREFETCH_PAGE_BITMAP_H_

#include <cstdint>
#include <vector>

#include "pages/page_range_set.h"

namespace faultline {

// Not thread-safe. Scans a word of 64 pages at a time.
class PageBitmap {
 public:
  // The pages of `pages`, of a region with `page_count` pages.
  PageBitmap(uint64_t page_count, const PageRangeSet& pages);

  uint64_t page_count() const { return page_count_; }
  uint64_t pages_left() const { return pages_left_; }
  bool Contains(uint64_t page) const { return (words_[page / 64] >> (page % 64) & 1) != 0; }
  // Takes one page out; false if it was not in.
  bool Remove(uint64_t page);
  // Takes out and returns the first stretch of neighbouring pages in [first, end), at most
  // `count_max` of them; an empty range if there is none.
  PageRange TakeFirst(uint64_t first, uint64_t end, uint64_t count_max);

 private:
  // The first page at or after `page` and before `end` that is in (or, `inverted`, is not); `end`
  // if none.
  uint64_t Find(uint64_t page, uint64_t end, bool inverted) const;

  uint64_t page_count_;
  uint64_t pages_left_ = 0;
  std::vector<uint64_t> words_;
};

}  // namespace faultline

#endif  // FAULTLINE_PREFETCH_PAGE_BITMAP_H_
