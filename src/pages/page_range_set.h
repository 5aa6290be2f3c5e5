// A set of pages of one region, kept as sorted, separate ranges.
#ifndef FAULTLINE_PAGES_PAGE_RANGE_SET_H_
#define FAULTLINE_PAGES_PAGE_RANGE_SET_H_

#include <cstdint>
#include <map>
#include <optional>

namespace faultline {

struct PageRange {
  uint64_t first = 0;
  uint64_t end = 0;  // one past the last

  uint64_t count() const { return end - first; }
  friend bool operator==(const PageRange&, const PageRange&) = default;
};

// Not thread-safe.
class PageRangeSet {
 public:
  // Adds [first, end); what overlaps or touches is merged. first < end.
  void Add(uint64_t first, uint64_t end);
  // Takes [first, end) out.
  void Remove(uint64_t first, uint64_t end);
  void Clear();

  bool Contains(uint64_t page) const;
  bool empty() const { return ranges_.empty(); }
  uint64_t page_count() const { return page_count_; }
  size_t range_count() const { return ranges_.size(); }
  // The first range, or rest of a range, at or after `page`.
  std::optional<PageRange> FindFrom(uint64_t page) const;

  template <typename Visitor>  // void(PageRange), ascending
  void ForEach(Visitor visit) const {
    for (const auto& [first, end] : ranges_) visit(PageRange{first, end});
  }
  friend bool operator==(const PageRangeSet&, const PageRangeSet&) = default;

 private:
  std::map<uint64_t, uint64_t> ranges_;  // first -> end
  uint64_t page_count_ = 0;
};

// The pages that are in both.
PageRangeSet Intersection(const PageRangeSet& a, const PageRangeSet& b);

}  // namespace faultline

#endif  // FAULTLINE_PAGES_PAGE_RANGE_SET_H_
