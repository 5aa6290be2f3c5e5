#include "memory/wp_tracker.h"

#include <fmt/format.h>
#include <sys/vfs.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "base/check.h"
#include "memory/kernel_abi.h"

namespace faultline {
namespace {

// One call protects so much, or one page: meanwhile the VM's process cannot map or unmap anything,
// and KVM cannot map a page for the guest.
constexpr uint64_t kProtectBytesMax = uint64_t{1} << 26;
// Written stretches nearer to one another than this are protected by one call.
constexpr uint64_t kGapBytesMax = uint64_t{1} << 21;
constexpr size_t kStretchesPerCall = 512;

}  // namespace

struct WpTracker::Stretch {
  uint64_t start = 0;
  uint64_t end = 0;
};

uint64_t DirtyTrackingUffdFeatures() {
  return UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM |
         kUffdFeatureWpUnpopulated | kUffdFeatureWpAsync;
}

absl::StatusOr<std::unique_ptr<WpTracker>> WpTracker::Make(std::span<const RamRegion> regions,
                                                           WpMemory memory, bool needs_paused_vm) {
  FAULTLINE_CHECK(memory.host_addresses.size() == regions.size());
  // An ioctl on a file of another kind could wait for whoever serves it.
  struct statfs kind;
  if (fstatfs(memory.pagemap.get(), &kind) < 0 || uint64_t(kind.f_type) != kProcMagic) {
    return absl::FailedPreconditionError(
        "what should be the pagemap of the VM's process is none: is the hook Faultline's?");
  }
  std::vector<Region> own;
  for (size_t i = 0; i < regions.size(); ++i) {
    const RegionLayout& layout = regions[i].layout;
    own.push_back({.name = layout.name,
                   .page_bytes = layout.page_size_bytes,
                   .page_count = layout.page_count(),
                   .host_address = memory.host_addresses[i]});
  }
  return std::unique_ptr<WpTracker>(
      new WpTracker(std::move(own), std::move(memory), needs_paused_vm));
}

WpTracker::~WpTracker() { Stop().IgnoreError(); }

absl::Status WpTracker::Start() {
  FAULTLINE_CHECK(memory_.end != nullptr);
  for (const Region& region : regions_) RETURN_IF_ERROR(Protect(region));
  return absl::OkStatus();
}

absl::Status WpTracker::Protect(const Region& region) const {
  const uint64_t bytes = region.page_count * region.page_bytes;
  for (uint64_t done = 0; done < bytes;) {
    const uint64_t piece = std::min(bytes - done, std::max(kProtectBytesMax, region.page_bytes));
    uffdio_writeprotect request{.range = {.start = region.host_address + done, .len = piece},
                                .mode = UFFDIO_WRITEPROTECT_MODE_WP};
    if (ioctl(memory_.uffd.get(), UFFDIO_WRITEPROTECT, &request) < 0) {
      if (errno == EAGAIN || errno == EINTR) continue;
      return ErrnoStatus(
          errno, fmt::format("write-protect region '{}' to see what the VM writes", region.name));
    }
    done += piece;
  }
  return absl::OkStatus();
}

template <typename Found>
absl::Status WpTracker::Walk(const Region& region, uint64_t start, uint64_t end, bool protect,
                             Found found) const {
  std::array<PagemapRegion, kStretchesPerCall> stretches;
  const uint64_t step = std::max(kProtectBytesMax, region.page_bytes);
  while (start < end) {
    // Exactly these masks: the kernel then counts every page that is not protected as written, also
    // one that its page table has lost.
    PagemapScan scan{.size = sizeof(scan),
                     .flags = kPagemapScanCheckWpAsync | (protect ? kPagemapScanWpMatching : 0),
                     .start = start,
                     .end = protect ? std::min(end, start / step * step + step) : end,
                     .walk_end = 0,
                     .vec = reinterpret_cast<uint64_t>(stretches.data()),
                     .vec_len = stretches.size(),
                     .max_pages = 0,
                     .category_inverted = 0,
                     .category_mask = kPageIsWritten,
                     .category_anyof_mask = 0,
                     .return_mask = kPageIsWritten};
    const int count = ioctl(memory_.pagemap.get(), kPagemapScan, &scan);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EPERM) {
      return absl::AbortedError(fmt::format(
          "the VM's process has mapped region '{}' anew while its writes were tracked: memory must "
          "stay where it is until the migration has ended",
          region.name));
    }
    if (count < 0) {
      return ErrnoStatus(errno,
                         fmt::format("ask which pages of region '{}' were written", region.name));
    }
    for (int i = 0; i < count; ++i) found(Stretch{stretches[i].start, stretches[i].end});
    if (scan.walk_end <= start) {
      return absl::InternalError(fmt::format(
          "the kernel does not get on with its scan of region '{}' at {:#x}", region.name, start));
    }
    start = scan.walk_end;
  }
  return absl::OkStatus();
}

absl::Status WpTracker::Scan(std::span<const PageRun> runs, AfterScan after, PageSet* written) {
  FAULTLINE_CHECK(memory_.end != nullptr);
  for (const PageRun& run : runs) RETURN_IF_ERROR(ScanRun(run, after, written));
  return absl::OkStatus();
}

absl::Status WpTracker::ScanRun(PageRun run, AfterScan after, PageSet* written) const {
  FAULTLINE_CHECK(run.region < regions_.size());
  const Region& region = regions_[run.region];
  FAULTLINE_CHECK(run.end() <= region.page_count && run.first <= run.end());
  const uint64_t start = region.host_address + run.first * region.page_bytes;
  const uint64_t end = region.host_address + run.end() * region.page_bytes;
  auto report = [&](Stretch stretch) {
    const uint64_t first = (stretch.start - region.host_address) / region.page_bytes;
    const uint64_t last = (stretch.end - 1 - region.host_address) / region.page_bytes;
    written->Add({run.region, first, last + 1 - first});
  };
  if (after == AfterScan::kAsItIs) return Walk(region, start, end, /*protect=*/false, report);
  std::vector<Stretch> near;
  RETURN_IF_ERROR(Walk(region, start, end, /*protect=*/false, [&](Stretch stretch) {
    if (!near.empty() && stretch.start - near.back().end < kGapBytesMax) {
      near.back().end = stretch.end;
    } else {
      near.push_back(stretch);
    }
  }));
  // What this walk says counts: it protects a page and reports it as one.
  for (const Stretch& around : near) {
    RETURN_IF_ERROR(Walk(region, around.start, around.end, /*protect=*/true, report));
  }
  return absl::OkStatus();
}

absl::Status WpTracker::Stop() {
  const std::function<absl::Status()> end = std::exchange(memory_.end, nullptr);
  if (end == nullptr) return absl::OkStatus();
  const absl::Status status = end();
  memory_.uffd.Reset();
  memory_.pagemap.Reset();
  return status;
}

}  // namespace faultline
