// How pages are named: a region (one RAM block of the VM) and an index inside it.
#ifndef FAULTLINE_PAGES_PAGE_TYPES_H_
#define FAULTLINE_PAGES_PAGE_TYPES_H_

#include <compare>
#include <cstdint>
#include <functional>

namespace faultline {

// A region's place in the agreed layout, from 0.
using RegionIndex = uint32_t;

// One page: its size is its region's.
struct PageId {
  RegionIndex region = 0;
  uint64_t index = 0;

  friend auto operator<=>(const PageId&, const PageId&) = default;
};

// `count` neighbouring pages of one region, from `first`.
struct PageRun {
  RegionIndex region = 0;
  uint64_t first = 0;
  uint64_t count = 0;

  uint64_t end() const { return first + count; }
  bool empty() const { return count == 0; }
  bool Contains(PageId page) const {
    return page.region == region && page.index >= first && page.index < end();
  }
  friend bool operator==(const PageRun&, const PageRun&) = default;
};

struct PageIdHash {
  size_t operator()(const PageId& page) const {
    // The high bits are the well mixed ones, and tables look at the low ones.
    const uint64_t product = (page.index + 1) * 0x9e3779b97f4a7c15u;
    return static_cast<size_t>((product ^ (product >> 32)) + page.region);
  }
};

}  // namespace faultline

#endif  // FAULTLINE_PAGES_PAGE_TYPES_H_
