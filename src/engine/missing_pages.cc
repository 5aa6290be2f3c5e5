#include "engine/missing_pages.h"

#include <fmt/format.h>

#include "base/check.h"

namespace faultline {

MissingPages::MissingPages(const MemoryLayout& layout)
    : layout_(layout), pages_(layout.size()), cursors_(layout.size()) {}

absl::Status MissingPages::Add(const StillMissing& message) {
  if (message.region >= layout_.size()) {
    return absl::InvalidArgumentError(
        fmt::format("StillMissing.region is {}, but there are {}", message.region, layout_.size()));
  }
  const uint64_t page_count = layout_[message.region].page_count();
  uint64_t& cursor = cursors_[message.region];
  for (const PageRange& range : message.ranges) {
    if (range.first < cursor || range.end <= range.first || range.end > page_count) {
      return absl::InvalidArgumentError(fmt::format(
          "StillMissing.ranges of region {}: [{}, {}) is not after page {} and inside {} pages",
          message.region, range.first, range.end, cursor, page_count));
    }
    cursor = range.end;
    page_count_ += range.count();
    pages_[message.region].Add(range.first, range.end);
  }
  return absl::OkStatus();
}

absl::Status MissingPages::End(const StillMissingEnd& message) const {
  if (message.missing_pages == page_count_) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("StillMissingEnd.missing_pages is {}, but the ranges hold {}",
                  message.missing_pages, page_count_));
}

AllocationMap MissingPages::In(const AllocationMap& map) const {
  FAULTLINE_CHECK(map.size() == pages_.size());
  AllocationMap both;
  for (size_t region = 0; region < map.size(); ++region) {
    both.push_back(Intersection(map[region], pages_[region]));
  }
  return both;
}

}  // namespace faultline
