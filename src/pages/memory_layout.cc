#include "pages/memory_layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

namespace faultline {
namespace {

std::string Names(const MemoryLayout& layout) {
  std::string names;
  for (const RegionLayout& region : layout) {
    names += fmt::format("{}'{}'", names.empty() ? "" : ", ", region.name);
  }
  return names;
}

absl::Status CompareRegion(const RegionLayout& source, const RegionLayout& destination) {
  if (source.size_bytes != destination.size_bytes) {
    return absl::FailedPreconditionError(fmt::format(
        "memory layouts differ: RAM block '{}' has {} bytes on the source and {} on the "
        "destination; start the destination with the same memory size",
        source.name, source.size_bytes, destination.size_bytes));
  }
  if (source.page_size_bytes != destination.page_size_bytes) {
    return absl::FailedPreconditionError(
        fmt::format("memory layouts differ: RAM block '{}' has pages of {} bytes on the source and "
                    "of {} on the "
                    "destination; put both on tmpfs, or both on hugetlbfs with the same page size",
                    source.name, source.page_size_bytes, destination.page_size_bytes));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidateLayout(const MemoryLayout& layout) {
  if (layout.empty() || layout.size() > kRegionsMax) {
    return absl::InvalidArgumentError(fmt::format(
        "the memory layout has {} regions (1 to {} allowed)", layout.size(), kRegionsMax));
  }
  for (size_t i = 0; i < layout.size(); ++i) {
    const RegionLayout& region = layout[i];
    if (region.name.empty() || region.name.size() > 255) {
      return absl::InvalidArgumentError(
          fmt::format("region {}: name of {} bytes (1 to 255 allowed)", i, region.name.size()));
    }
    if (region.page_size_bytes < kPageBytesMin || region.page_size_bytes > kPageBytesMax ||
        !std::has_single_bit(region.page_size_bytes)) {
      return absl::InvalidArgumentError(
          fmt::format("region '{}': page size {} is not a power of two from 4 KiB to 1 GiB",
                      region.name, region.page_size_bytes));
    }
    if (region.size_bytes == 0 || region.size_bytes > kRegionBytesMax ||
        region.size_bytes % region.page_size_bytes != 0) {
      return absl::InvalidArgumentError(fmt::format(
          "region '{}': size {} is not a whole number of its {}-byte pages, or too large",
          region.name, region.size_bytes, region.page_size_bytes));
    }
    for (size_t j = 0; j < i; ++j) {
      if (layout[j].name == region.name) {
        return absl::InvalidArgumentError(fmt::format("region name '{}' comes twice", region.name));
      }
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<RegionIndex>> MatchLayouts(const MemoryLayout& source,
                                                      const MemoryLayout& destination) {
  if (source.size() != destination.size()) {
    return absl::FailedPreconditionError(
        fmt::format("memory layouts differ: the source has {} RAM blocks ({}), the destination {} "
                    "({}); start the "
                    "destination with the same memory backends",
                    source.size(), Names(source), destination.size(), Names(destination)));
  }
  std::vector<RegionIndex> matches;
  for (const RegionLayout& region : source) {
    auto found = std::find_if(destination.begin(), destination.end(),
                              [&](const RegionLayout& other) { return other.name == region.name; });
    if (found == destination.end()) {
      return absl::FailedPreconditionError(fmt::format(
          "memory layouts differ: the source's RAM block '{}' does not exist on the destination, "
          "which has {}; give the destination's memory backend the same id",
          region.name, Names(destination)));
    }
    RETURN_IF_ERROR(CompareRegion(region, *found));
    matches.push_back(static_cast<RegionIndex>(found - destination.begin()));
  }
  return matches;
}

uint64_t TotalPages(const MemoryLayout& layout) {
  uint64_t pages = 0;
  for (const RegionLayout& region : layout) pages += region.page_count();
  return pages;
}

uint64_t TotalBytes(const MemoryLayout& layout) {
  uint64_t bytes = 0;
  for (const RegionLayout& region : layout) bytes += region.size_bytes;
  return bytes;
}

}  // namespace faultline
