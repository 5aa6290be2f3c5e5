#include "pages/page_range_set.h"

#include <algorithm>

#include "base/check.h"

namespace faultline {

void PageRangeSet::Add(uint64_t first, uint64_t end) {
  FAULTLINE_CHECK(first < end);
  if (ranges_.empty() || first > ranges_.rbegin()->second) {
    // Maps are read in ascending order, by the hundred thousand, while the VM stands still.
    ranges_.emplace_hint(ranges_.end(), first, end);
    page_count_ += end - first;
    return;
  }
  auto it = ranges_.upper_bound(first);
  if (it != ranges_.begin() && std::prev(it)->second >= first) --it;
  while (it != ranges_.end() && it->first <= end) {
    first = std::min(first, it->first);
    end = std::max(end, it->second);
    page_count_ -= it->second - it->first;
    it = ranges_.erase(it);
  }
  ranges_.emplace_hint(it, first, end);
  page_count_ += end - first;
}

void PageRangeSet::Remove(uint64_t first, uint64_t end) {
  FAULTLINE_CHECK(first < end);
  auto it = ranges_.upper_bound(first);
  if (it != ranges_.begin() && std::prev(it)->second > first) --it;
  while (it != ranges_.end() && it->first < end) {
    auto [range_first, range_end] = *it;
    page_count_ -= range_end - range_first;
    it = ranges_.erase(it);
    if (range_first < first) {
      ranges_.emplace(range_first, first);
      page_count_ += first - range_first;
    }
    if (range_end > end) {
      it = ranges_.emplace(end, range_end).first;
      page_count_ += range_end - end;
    }
  }
}

void PageRangeSet::Clear() {
  ranges_.clear();
  page_count_ = 0;
}

bool PageRangeSet::Contains(uint64_t page) const {
  auto it = ranges_.upper_bound(page);
  return it != ranges_.begin() && std::prev(it)->second > page;
}

std::optional<PageRange> PageRangeSet::FindFrom(uint64_t page) const {
  auto it = ranges_.upper_bound(page);
  if (it != ranges_.begin() && std::prev(it)->second > page) {
    return PageRange{page, std::prev(it)->second};
  }
  if (it == ranges_.end()) return std::nullopt;
  return PageRange{it->first, it->second};
}

PageRangeSet Intersection(const PageRangeSet& a, const PageRangeSet& b) {
  PageRangeSet both;
  std::optional<PageRange> of_a = a.FindFrom(0);
  std::optional<PageRange> of_b = b.FindFrom(0);
  while (of_a && of_b) {
    const uint64_t first = std::max(of_a->first, of_b->first);
    const uint64_t end = std::min(of_a->end, of_b->end);
    if (first < end) both.Add(first, end);
    // The one that ends first has nothing more to give.
    const bool a_ends_first = of_a->end < of_b->end;
    if (a_ends_first || of_a->end == of_b->end) of_a = a.FindFrom(of_a->end);
    if (!a_ends_first) of_b = b.FindFrom(of_b->end);
  }
  return both;
}

}  // namespace faultline
