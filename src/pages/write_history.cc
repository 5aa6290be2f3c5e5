#include "pages/write_history.h"

#include <bit>

namespace faultline {

WriteHistory::WriteHistory(const MemoryLayout& layout) : layout_(layout) {
  for (const RegionLayout& region : layout) recent_.emplace_back(region.page_count());
}

void WriteHistory::NoteScan(const PageSet& written) {
  ++scans_;
  for (std::vector<uint8_t>& region : recent_) {
    for (uint8_t& scans : region) scans = static_cast<uint8_t>(scans >> 1);
  }
  written.ForEach([this](PageRun run) {
    for (uint64_t page = run.first; page < run.end(); ++page)
      recent_[run.region][page] |= kLastScan;
  });
}

PageSet WriteHistory::Hot() const {
  PageSet pages(layout_);
  for (RegionIndex region = 0; region < recent_.size(); ++region) {
    for (uint64_t page = 0; page < recent_[region].size(); ++page) {
      const uint8_t scans = recent_[region][page];
      const bool hot =
          (scans & kLastTwoScans) == kLastTwoScans || std::popcount(scans) >= kHotFromScans;
      if (hot) pages.Add({region, page, 1});
    }
  }
  return pages;
}

}  // namespace faultline
