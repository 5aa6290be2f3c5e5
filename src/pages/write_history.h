// Which pages were found written by the last scans of a VM's memory: how hot they are.
#ifndef FAULTLINE_PAGES_WRITE_HISTORY_H_
#define FAULTLINE_PAGES_WRITE_HISTORY_H_

#include <cstdint>
#include <vector>

#include "pages/memory_layout.h"
#include "pages/page_set.h"
#include "pages/page_types.h"

namespace faultline {

// A byte a page: the last eight scans. Not thread-safe.
class WriteHistory {
 public:
  static constexpr int kScansKept = 8;

  // Nothing was ever written; without a layout it knows no pages.
  WriteHistory() = default;
  explicit WriteHistory(const MemoryLayout& layout);

  // One more scan, which found `written`.
  void NoteScan(const PageSet& written);

  bool empty() const { return scans_ == 0; }
  // The more recently a page was written the more, and of pages written at the same time those that
  // were written before it too; 0: in none of the scans that are kept.
  uint8_t HeatOf(PageId page) const {
    return recent_.empty() ? uint8_t{0} : recent_[page.region][page.index];
  }
  // Pages that are written all the time, as far as the scans can tell: each of the last two found
  // them written, or three of those that are kept.
  PageSet Hot() const;

 private:
  static constexpr uint8_t kLastScan = 0x80;
  static constexpr uint8_t kLastTwoScans = 0xc0;
  static constexpr int kHotFromScans = 3;

  MemoryLayout layout_;
  std::vector<std::vector<uint8_t>> recent_;  // the highest bit is the last scan
  uint64_t scans_ = 0;
};

}  // namespace faultline

#endif  // FAULTLINE_PAGES_WRITE_HISTORY_H_
