#include "memory/ram_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <vector>

#include "memory/hugetlb_data.h"
#include "memory/kernel_abi.h"
#include "memory/mapping.h"

namespace faultline {
namespace {

// After so many stretches of data mincore is the faster way.
constexpr uint64_t kSeekRangesMax = 2048;
constexpr uint64_t kBlockBytes = 512;  // of st_blocks

struct Extent {
  uint64_t first = 0;  // bytes from the region's start
  uint64_t end = 0;
};

// The first stretch of data at or after `from_bytes` of the region; none if only a hole follows.
absl::StatusOr<std::optional<Extent>> NextExtent(const RamRegion& region, uint64_t from_bytes) {
  off_t base = static_cast<off_t>(region.file_offset_bytes);
  off_t region_end = base + static_cast<off_t>(region.layout.size_bytes);
  off_t data = lseek(region.file, base + static_cast<off_t>(from_bytes), SEEK_DATA);
  if ((data < 0 && errno == ENXIO) || data >= region_end) return std::nullopt;
  if (data < 0) {
    return ErrnoStatus(errno, fmt::format("look for data in the RAM file of '{}' (lseek SEEK_DATA)",
                                          region.layout.name));
  }
  off_t hole = lseek(region.file, data, SEEK_HOLE);
  if (hole < 0) {
    return ErrnoStatus(errno,
                       fmt::format("look for a hole in the RAM file of '{}' (lseek SEEK_HOLE)",
                                   region.layout.name));
  }
  return Extent{static_cast<uint64_t>(data - base),
                static_cast<uint64_t>(std::min(hole, region_end) - base)};
}

// Walks the extents; stops after `ranges_max` with what it has and false.
absl::StatusOr<bool> WalkExtents(const RamRegion& region, uint64_t ranges_max,
                                 PageRangeSet* pages) {
  uint64_t page_bytes = region.layout.page_size_bytes;
  for (uint64_t at_bytes = 0; at_bytes < region.layout.size_bytes;) {
    if (pages->range_count() >= ranges_max) return false;
    ASSIGN_OR_RETURN(std::optional<Extent> extent, NextExtent(region, at_bytes));
    if (!extent.has_value()) break;
    pages->Add(extent->first / page_bytes, (extent->end + page_bytes - 1) / page_bytes);
    at_bytes = extent->end;
  }
  return true;
}

// What mincore sees, if that is all that the file holds: pages in swap are not seen, and neither
// is anything right where the caller may not write the file.
absl::StatusOr<std::optional<PageRangeSet>> ReadResidentPages(const RamRegion& region) {
  struct stat info;
  if (fstat(region.file, &info) < 0) {
    return ErrnoStatus(errno, fmt::format("stat the RAM file of '{}'", region.layout.name));
  }
  bool whole_file = region.file_offset_bytes == 0 &&
                    static_cast<uint64_t>(info.st_size) == region.layout.size_bytes;
  uint64_t page_bytes = region.layout.page_size_bytes;
  if (!whole_file || page_bytes != static_cast<uint64_t>(sysconf(_SC_PAGESIZE))) {
    return std::nullopt;
  }
  ASSIGN_OR_RETURN(Mapping mapping,
                   Mapping::MapFile(region.file, region.file_offset_bytes, region.layout.size_bytes,
                                    /*writable=*/false, "a RAM file"));
  std::vector<unsigned char> resident(region.layout.page_count());
  void* address = reinterpret_cast<void*>(mapping.address());
  if (mincore(address, region.layout.size_bytes, resident.data()) < 0) return std::nullopt;
  auto is_resident = [](unsigned char flags) { return (flags & 1) != 0; };
  PageRangeSet pages;
  for (auto at = resident.begin();;) {
    auto first = std::find_if(at, resident.end(), is_resident);
    if (first == resident.end()) break;
    at = std::find_if_not(first, resident.end(), is_resident);
    pages.Add(static_cast<uint64_t>(first - resident.begin()),
              static_cast<uint64_t>(at - resident.begin()));
  }
  if (pages.page_count() * page_bytes != static_cast<uint64_t>(info.st_blocks) * kBlockBytes) {
    return std::nullopt;
  }
  return pages;
}

absl::StatusOr<PageRangeSet> ReadHugetlbPages(const RamRegion& region) {
  absl::StatusOr<PageRangeSet> pages = FindHugetlbPagesByContinue(region);
  return pages.ok() ? std::move(pages) : FindHugetlbPagesByReading(region);
}

}  // namespace

absl::StatusOr<RamFileKind> KindOfRamFile(int file) {
  struct statfs info;
  if (fstatfs(file, &info) < 0) return ErrnoStatus(errno, "find a RAM file's file system");
  switch (static_cast<uint64_t>(info.f_type)) {
    case kTmpfsMagic:
      return RamFileKind::kTmpfs;
    case kHugetlbfsMagic:
      return RamFileKind::kHugetlbfs;
    default:
      return RamFileKind::kOther;
  }
}

absl::Status CheckRamFile(const RamRegion& region, RamFileKind kind) {
  const std::string& name = region.layout.name;
  if (kind == RamFileKind::kOther) {
    return absl::FailedPreconditionError(fmt::format(
        "RAM block '{}' lies on a disk's file system; its memory backend must be on tmpfs "
        "(mem-path=/dev/shm/...) or hugetlbfs",
        name));
  }
  struct stat info;
  struct statfs file_system;
  if (fstat(region.file, &info) < 0 || fstatfs(region.file, &file_system) < 0) {
    return ErrnoStatus(errno, fmt::format("stat the RAM file of '{}'", name));
  }
  uint64_t end = region.file_offset_bytes + region.layout.size_bytes;
  if (static_cast<uint64_t>(info.st_size) < end) {
    return absl::FailedPreconditionError(
        fmt::format("the RAM file of '{}' has {} bytes, but the RAM block ends at {}; has somebody "
                    "truncated it? Start QEMU with a file of its own",
                    name, info.st_size, end));
  }
  uint64_t page_bytes = static_cast<uint64_t>(file_system.f_bsize);
  if (page_bytes != region.layout.page_size_bytes) {
    return absl::FailedPreconditionError(
        fmt::format("RAM block '{}' is in a file with pages of {} bytes, but is described with "
                    "pages of {}",
                    name, page_bytes, region.layout.page_size_bytes));
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> HoldsData(const RamRegion& region, RamFileKind kind) {
  if (kind == RamFileKind::kHugetlbfs) {
    struct stat info;
    if (fstat(region.file, &info) < 0) {
      return ErrnoStatus(errno, fmt::format("stat the RAM file of '{}'", region.layout.name));
    }
    return info.st_blocks != 0;
  }
  ASSIGN_OR_RETURN(std::optional<Extent> extent, NextExtent(region, 0));
  return extent.has_value();
}

absl::StatusOr<PageRangeSet> ReadDataPages(const RamRegion& region, RamFileKind kind) {
  if (kind == RamFileKind::kHugetlbfs) return ReadHugetlbPages(region);
  PageRangeSet pages;
  ASSIGN_OR_RETURN(bool whole, WalkExtents(region, kSeekRangesMax, &pages));
  if (whole) return pages;
  ASSIGN_OR_RETURN(std::optional<PageRangeSet> resident, ReadResidentPages(region));
  if (resident.has_value()) return *std::move(resident);
  pages.Clear();
  RETURN_IF_ERROR(WalkExtents(region, UINT64_MAX, &pages).status());
  return pages;
}

}  // namespace faultline
