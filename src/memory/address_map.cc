#include "memory/address_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "base/check.h"

namespace faultline {

absl::StatusOr<AddressMap> AddressMap::Make(const MemoryLayout& layout,
                                            std::span<const uint64_t> host_addresses) {
  FAULTLINE_CHECK(layout.size() == host_addresses.size());
  AddressMap map;
  for (size_t i = 0; i < layout.size(); ++i) {
    uint64_t first = host_addresses[i];
    uint64_t end = first + layout[i].size_bytes;
    if (first % layout[i].page_size_bytes != 0 || end <= first) {
      return absl::InvalidArgumentError(fmt::format(
          "region '{}' is at address {:#x}, which is no start of {} bytes in pages of {}",
          layout[i].name, first, layout[i].size_bytes, layout[i].page_size_bytes));
    }
    map.regions_.push_back({first, end, layout[i].page_size_bytes});
  }
  map.sorted_.resize(layout.size());
  std::iota(map.sorted_.begin(), map.sorted_.end(), 0);
  std::sort(map.sorted_.begin(), map.sorted_.end(), [&](RegionIndex a, RegionIndex b) {
    return map.regions_[a].first < map.regions_[b].first;
  });
  for (size_t i = 1; i < map.sorted_.size(); ++i) {
    RegionIndex before = map.sorted_[i - 1];
    RegionIndex after = map.sorted_[i];
    if (map.regions_[before].end > map.regions_[after].first) {
      return absl::InvalidArgumentError(
          fmt::format("regions '{}' and '{}' overlap at address {:#x}", layout[before].name,
                      layout[after].name, map.regions_[after].first));
    }
  }
  return map;
}

std::optional<PageId> AddressMap::PageAt(uint64_t address) const {
  auto after = std::upper_bound(
      sorted_.begin(), sorted_.end(), address,
      [&](uint64_t wanted, RegionIndex region) { return wanted < regions_[region].first; });
  if (after == sorted_.begin()) return std::nullopt;
  RegionIndex index = *std::prev(after);
  const Region& region = regions_[index];
  if (address >= region.end) return std::nullopt;
  return PageId{index, (address - region.first) / region.page_size_bytes};
}

std::vector<PageRun> AddressMap::RunsIn(uint64_t first, uint64_t end) const {
  std::vector<PageRun> runs;
  for (RegionIndex index : sorted_) {
    const Region& region = regions_[index];
    uint64_t from = std::max(first, region.first);
    uint64_t to = std::min(end, region.end);
    if (from >= to) continue;
    uint64_t size = region.page_size_bytes;
    uint64_t first_page = (from - region.first + size - 1) / size;
    uint64_t end_page = (to - region.first) / size;
    if (first_page < end_page) runs.push_back({index, first_page, end_page - first_page});
  }
  return runs;
}

uint64_t AddressMap::AddressOf(PageId page) const {
  const Region& region = regions_[page.region];
  return region.first + page.index * region.page_size_bytes;
}

}  // namespace faultline
