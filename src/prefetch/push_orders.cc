#include "prefetch/push_orders.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/check.h"

namespace faultline {
namespace {

constexpr std::string_view kHotFirst = "hot-first";
constexpr std::string_view kFaultAround = "fault-around";
constexpr std::string_view kPlain = "plain";

}  // namespace

void PlainOrder::Start(const MemoryLayout& layout, const AllocationMap& map) {
  FAULTLINE_CHECK(layout.size() == map.size());
  left_.clear();
  page_sizes_bytes_.clear();
  pages_left_ = 0;
  cursor_ = {};
  for (size_t i = 0; i < layout.size(); ++i) {
    left_.emplace_back(layout[i].page_count(), map[i]);
    page_sizes_bytes_.push_back(layout[i].page_size_bytes);
    pages_left_ += left_.back().pages_left();
  }
}

void PlainOrder::OnDemand(PageId page) {
  if (IsPage(page) && left_[page.region].Remove(page.index)) --pages_left_;
}

PageRun PlainOrder::Next(uint64_t bytes_max) {
  while (cursor_.region < left_.size()) {
    PageRun run = Take(cursor_.region, cursor_.index, page_count(cursor_.region), bytes_max);
    if (!run.empty()) {
      cursor_.index = run.end();
      return run;
    }
    cursor_ = {cursor_.region + 1, 0};
  }
  return {};
}

PageRun PlainOrder::Take(RegionIndex region, uint64_t first, uint64_t end, uint64_t bytes_max) {
  uint64_t count_max = std::max<uint64_t>(1, bytes_max / page_size_bytes(region));
  PageRange range = left_[region].TakeFirst(first, end, count_max);
  pages_left_ -= range.count();
  return {region, range.first, range.count()};
}

void FaultAroundOrder::Start(const MemoryLayout& layout, const AllocationMap& map) {
  PlainOrder::Start(layout, map);
  hot_spots_.clear();
  windows_.clear();
}

uint64_t FaultAroundOrder::AheadPages(PageId page) const {
  const uint64_t page_bytes = page_size_bytes(page.region);
  uint64_t pages = std::max<uint64_t>(1, ahead_bytes_ / page_bytes);
  for (const Window& window : windows_) {
    // Or a little further: what lay there may have come in plain order.
    const bool at_end = window.region == page.region && page.index >= window.end &&
                        page.index < window.end + window.pages;
    if (at_end) pages = std::max(pages, 2 * window.pages);
  }
  return std::min(pages, std::max<uint64_t>(1, kAheadBytesMax / page_bytes));
}

void FaultAroundOrder::OnDemand(PageId page) {
  PlainOrder::OnDemand(page);
  if (!IsPage(page)) return;
  const uint64_t ahead = AheadPages(page);
  uint64_t behind = behind_bytes_ / page_size_bytes(page.region);
  uint64_t next = page.index + 1;
  HotSpot spot{.region = page.region,
               .ahead = {next, std::min(page_count(page.region), next + ahead)},
               .behind = {page.index - std::min(page.index, behind), page.index}};
  if (hot_spots_.size() == kHotSpotsMax) hot_spots_.pop_front();
  hot_spots_.push_back(spot);
  if (windows_.size() == kHotSpotsMax) windows_.pop_front();
  windows_.push_back({page.region, spot.ahead.end, ahead});
}

PageRun FaultAroundOrder::Next(uint64_t bytes_max) {
  while (!hot_spots_.empty()) {
    HotSpot& spot = hot_spots_.back();
    for (PageRange* range : {&spot.ahead, &spot.behind}) {
      PageRun run = Take(spot.region, range->first, range->end, bytes_max);
      if (run.empty()) continue;
      range->first = run.end();
      return run;
    }
    hot_spots_.pop_back();
  }
  return NextAfterSpots(bytes_max);
}

void HotFirstOrder::Start(const MemoryLayout& layout, const AllocationMap& map) {
  FaultAroundOrder::Start(layout, map);
  hot_.clear();
  const WriteHistory* history = std::exchange(history_, nullptr);
  if (history == nullptr || history->empty()) return;
  std::array<std::vector<PageRun>, 256> by_heat;
  for (RegionIndex region = 0; region < map.size(); ++region) {
    map[region].ForEach([&](PageRange range) {
      for (uint64_t page = range.first; page < range.end; ++page) {
        const uint8_t heat = history->HeatOf({region, page});
        if (heat == 0) continue;
        std::vector<PageRun>& runs = by_heat[heat];
        const bool goes_on =
            !runs.empty() && runs.back().region == region && runs.back().end() == page;
        if (goes_on) {
          ++runs.back().count;
        } else {
          runs.push_back({region, page, 1});
        }
      }
    });
  }
  // From the coldest on, each backwards: the last one is taken first.
  for (const std::vector<PageRun>& runs : by_heat)
    hot_.insert(hot_.end(), runs.rbegin(), runs.rend());
}

PageRun HotFirstOrder::NextAfterSpots(uint64_t bytes_max) {
  for (; !hot_.empty(); hot_.pop_back()) {
    PageRun run = Take(hot_.back().region, hot_.back().first, hot_.back().end(), bytes_max);
    if (!run.empty()) return run;
  }
  return FaultAroundOrder::NextAfterSpots(bytes_max);
}

std::vector<std::string> PushOrderNames() {
  return {std::string(kHotFirst), std::string(kFaultAround), std::string(kPlain)};
}

absl::StatusOr<std::unique_ptr<PushOrder>> MakePushOrder(std::string_view name) {
  if (name.empty() || name == kHotFirst) return std::make_unique<HotFirstOrder>();
  if (name == kFaultAround) return std::make_unique<FaultAroundOrder>();
  if (name == kPlain) return std::make_unique<PlainOrder>();
  return absl::InvalidArgumentError(fmt::format("there is no push order '{}'; there are: {}", name,
                                                fmt::join(PushOrderNames(), ", ")));
}

}  // namespace faultline
