// The push orders there are.
#ifndef FAULTLINE_PREFETCH_PUSH_ORDERS_H_
#define FAULTLINE_PREFETCH_PUSH_ORDERS_H_

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "prefetch/page_bitmap.h"
#include "seams/push_order.h"

namespace faultline {

// Region by region, from the first page to the last: the floor that others are measured against.
class PlainOrder : public PushOrder {
 public:
  void Start(const MemoryLayout& layout, const AllocationMap& map) override;
  void OnDemand(PageId page) override;
  PageRun Next(uint64_t bytes_max) override;
  uint64_t pages_left() const override { return pages_left_; }

 protected:
  uint64_t page_count(RegionIndex region) const { return left_[region].page_count(); }
  uint64_t page_size_bytes(RegionIndex region) const { return page_sizes_bytes_[region]; }
  bool IsPage(PageId page) const {
    return page.region < left_.size() && page.index < page_count(page.region);
  }
  // Takes the first stretch left in [first, end) of `region`, of at most `bytes_max`.
  PageRun Take(RegionIndex region, uint64_t first, uint64_t end, uint64_t bytes_max);

 private:
  std::vector<PageBitmap> left_;  // by RegionIndex
  std::vector<uint64_t> page_sizes_bytes_;
  uint64_t pages_left_ = 0;
  PageId cursor_;  // nothing is left before it
};

// First what lies around the pages that the peer needed, the most recent one first: guests touch
// neighbours. Then in plain order. A guest that comes to the end of what was pushed ahead of it
// goes through its memory in order, and has twice as much pushed ahead the next time.
class FaultAroundOrder : public PlainOrder {
 public:
  // After a page, `ahead_bytes` behind it in the address order are pushed, or a power of two times
  // as much up to kAheadBytesMax, then `behind_bytes` before it.
  explicit FaultAroundOrder(uint64_t ahead_bytes = 256 * 1024, uint64_t behind_bytes = 64 * 1024)
      : ahead_bytes_(ahead_bytes), behind_bytes_(behind_bytes) {}

  void Start(const MemoryLayout& layout, const AllocationMap& map) override;
  void OnDemand(PageId page) override;
  PageRun Next(uint64_t bytes_max) override;

 protected:
  // Once nothing is left around what was needed.
  virtual PageRun NextAfterSpots(uint64_t bytes_max) { return PlainOrder::Next(bytes_max); }

 private:
  // Where the guest was: first [ahead.first, ahead.end), then [behind.first, behind.end).
  struct HotSpot {
    RegionIndex region = 0;
    PageRange ahead;
    PageRange behind;
  };
  // So many are remembered; the oldest gives way. What it would have pushed comes in plain order.
  static constexpr size_t kHotSpotsMax = 16;
  static constexpr uint64_t kAheadBytesMax = 8 * 1024 * 1024;

  // What was pushed ahead of a page that was needed.
  struct Window {
    RegionIndex region = 0;
    uint64_t end = 0;
    uint64_t pages = 0;
  };
  // How much to push ahead of `page`: more if it lies at the end of an earlier window.
  uint64_t AheadPages(PageId page) const;

  const uint64_t ahead_bytes_;
  const uint64_t behind_bytes_;
  std::deque<HotSpot> hot_spots_;  // the most recent one at the back
  std::deque<Window> windows_;     // of the last demands, as many as hot spots
};

// The same, and after what lies around needed pages those that were written before the switch, the
// most recently written first: what a guest has written it uses soon. Without a history it is
// FaultAroundOrder.
class HotFirstOrder : public FaultAroundOrder {
 public:
  void SetHistory(const WriteHistory* history) override { history_ = history; }
  void Start(const MemoryLayout& layout, const AllocationMap& map) override;

 protected:
  PageRun NextAfterSpots(uint64_t bytes_max) override;

 private:
  const WriteHistory* history_ = nullptr;  // until Start
  std::vector<PageRun> hot_;               // the hottest last
};

// Their names: "hot-first", the default, first.
std::vector<std::string> PushOrderNames();
// The empty name stands for the default. InvalidArgument lists the names.
absl::StatusOr<std::unique_ptr<PushOrder>> MakePushOrder(std::string_view name);

}  // namespace faultline

#endif  // FAULTLINE_PREFETCH_PUSH_ORDERS_H_
