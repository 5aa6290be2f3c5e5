// The plainest push order: ascending, without what was asked for.
#ifndef FAULTLINE_TESTS_FAKES_FAKE_PUSH_ORDER_H_
#define FAULTLINE_TESTS_FAKES_FAKE_PUSH_ORDER_H_

#include <algorithm>

#include "seams/push_order.h"

namespace faultline {

class FakePushOrder : public PushOrder {
 public:
  void Start(const MemoryLayout& layout, const AllocationMap& map) override {
    layout_ = layout;
    left_ = map;
  }
  void OnDemand(PageId page) override { left_[page.region].Remove(page.index, page.index + 1); }
  PageRun Next(uint64_t bytes_max) override {
    for (RegionIndex region = 0; region < left_.size(); ++region) {
      auto range = left_[region].FindFrom(0);
      if (!range.has_value()) continue;
      uint64_t pages_max = std::max<uint64_t>(1, bytes_max / layout_[region].page_size_bytes);
      PageRun run{region, range->first, std::min(range->count(), pages_max)};
      left_[region].Remove(run.first, run.end());
      return run;
    }
    return {};
  }
  uint64_t pages_left() const override {
    uint64_t pages = 0;
    for (const PageRangeSet& set : left_) pages += set.page_count();
    return pages;
  }

 private:
  MemoryLayout layout_;
  AllocationMap left_;
};

}  // namespace faultline

#endif  // FAULTLINE_TESTS_FAKES_FAKE_PUSH_ORDER_H_
