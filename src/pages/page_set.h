// A set of pages of a whole VM, one bit each: for sets that are combined with one another.
#ifndef FAULTLINE_PAGES_PAGE_SET_H_
#define FAULTLINE_PAGES_PAGE_SET_H_

#include <cstdint>
#include <vector>

#include "pages/memory_layout.h"
#include "pages/page_range_set.h"
#include "pages/page_types.h"

namespace faultline {

// Not thread-safe. Whatever concerns all pages costs a few microseconds for each GiB of small ones.
// Sets that are combined have one layout.
class PageSet {
 public:
  // Empty; without a layout it has no pages at all.
  PageSet() = default;
  explicit PageSet(const MemoryLayout& layout);
  // Of each region the pages that are in its range set.
  PageSet(const MemoryLayout& layout, const std::vector<PageRangeSet>& pages);

  bool Contains(PageId page) const {
    return (words_[page.region][page.index / 64] >> (page.index % 64) & 1) != 0;
  }
  void Add(PageRun run);
  void Remove(PageRun run);
  void Clear();

  void Unite(const PageSet& other);
  void Intersect(const PageSet& other);
  void Subtract(const PageSet& other);

  uint64_t page_count() const;
  uint64_t byte_count() const;
  bool empty() const;
  // The first stretch of neighbouring pages of `within` that are in, at most `count_max` of them;
  // an empty run if there is none.
  PageRun FindFirst(PageRun within, uint64_t count_max = UINT64_MAX) const;

  template <typename Visitor>  // void(PageRun), ascending
  void ForEach(Visitor visit) const {
    for (RegionIndex region = 0; region < words_.size(); ++region) {
      const uint64_t page_count = page_counts_[region];
      PageRun run = FindFirst({region, 0, page_count});
      for (; !run.empty(); run = FindFirst({region, run.end(), page_count - run.end()})) visit(run);
    }
  }
  // The same of one region.
  PageRangeSet RangesOf(RegionIndex region) const;

  friend bool operator==(const PageSet&, const PageSet&) = default;

 private:
  template <typename Change>  // uint64_t(uint64_t word, uint64_t mask)
  void Rewrite(PageRun run, Change change);
  // The first page of [page, end) that is in (or, `inverted`, is not); `end` if none.
  uint64_t Find(RegionIndex region, uint64_t page, uint64_t end, bool inverted) const;

  std::vector<uint64_t> page_counts_;
  std::vector<uint64_t> page_sizes_bytes_;
  std::vector<std::vector<uint64_t>> words_;
};

}  // namespace faultline

#endif  // FAULTLINE_PAGES_PAGE_SET_H_
