#include "memory/soft_dirty_tracker.h"

#include <fmt/format.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/check.h"
#include "base/soft_dirty.h"
#include "base/text.h"
#include "memory/kernel_abi.h"

namespace faultline {
namespace {

// Documentation/admin-guide/mm/pagemap.rst: 64 bits for each page.
constexpr uint64_t kEntryPresent = uint64_t{1} << 63;
constexpr uint64_t kPageBytes = 4096;
constexpr size_t kEntriesPerRead = 1 << 15;

// The entries of `count` pages from `address` on.
absl::Status ReadEntries(int pagemap, uint64_t address, std::span<uint64_t> entries) {
  const auto offset = static_cast<off_t>(address / kPageBytes * sizeof(uint64_t));
  const ssize_t got = pread(pagemap, entries.data(), entries.size_bytes(), offset);
  if (got == static_cast<ssize_t>(entries.size_bytes())) return absl::OkStatus();
  return got < 0 ? ErrnoStatus(errno, "read the pagemap of the VM's process")
                 : absl::UnavailableError("the VM's process has no memory any more: it has ended");
}

// Adds page after page to a set as stretches.
class Stretches {
 public:
  explicit Stretches(PageRangeSet* set) : set_(set) {}
  ~Stretches() { Flush(); }
  void Add(uint64_t page) {
    if (page != end_) {
      Flush();
      first_ = page;
    }
    end_ = page + 1;
  }

 private:
  void Flush() {
    if (first_ < end_) set_->Add(first_, end_);
    first_ = end_ = 0;
  }
  PageRangeSet* const set_;
  uint64_t first_ = 0;
  uint64_t end_ = 0;
};

absl::Status CheckNoSwap() {
  const absl::StatusOr<std::string> swaps = ReadTextFile("/proc/swaps");
  if (absl::IsNotFound(swaps.status())) return absl::OkStatus();  // a kernel that cannot swap
  RETURN_IF_ERROR(swaps.status());
  if (!NamesSwapArea(*swaps)) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "this host swaps, and what the VM wrote to a page that was swapped out and read again is "
      "told "
      "by Linux 6.7 and later only (or switch swapping off: swapoff -a)");
}

bool IsProcFile(const FileDescriptor& file) {
  struct statfs kind;
  return fstatfs(file.get(), &kind) == 0 && uint64_t(kind.f_type) == kProcMagic;
}

}  // namespace

bool NamesSwapArea(std::string_view swaps) {
  // One line of headings, then one for each.
  const size_t headings = swaps.find('\n');
  return headings != std::string_view::npos &&
         swaps.find_first_not_of(" \n", headings) != std::string_view::npos;
}

absl::StatusOr<std::unique_ptr<SoftDirtyTracker>> SoftDirtyTracker::Make(
    std::span<const RamRegion> regions, SoftDirtyMemory memory) {
  FAULTLINE_CHECK(memory.host_addresses.size() == regions.size());
  for (const RamRegion& region : regions) {
    if (region.layout.page_size_bytes == kPageBytes) continue;
    return absl::FailedPreconditionError(fmt::format(
        "RAM block '{}' lies on hugetlbfs, whose writes only Linux 6.7 and later can tell of",
        region.layout.name));
  }
  RETURN_IF_ERROR(CheckNoSwap());
  if (!IsProcFile(memory.pagemap) || !IsProcFile(memory.clear_refs)) {
    return absl::FailedPreconditionError(
        "what should be files of the VM's process in /proc are none: is the hook Faultline's?");
  }
  return std::unique_ptr<SoftDirtyTracker>(new SoftDirtyTracker(regions, std::move(memory)));
}

absl::Status SoftDirtyTracker::ClearBits() const {
  if (pwrite(memory_.clear_refs.get(), "4", 1, 0) == 1) return absl::OkStatus();
  return ErrnoStatus(errno, "clear the soft-dirty bits of the VM's process");
}

absl::Status SoftDirtyTracker::Start() { return ClearBits(); }

absl::Status SoftDirtyTracker::CollectRegion(RegionIndex index) {
  const RamRegion& region = regions_[index];
  const uint64_t pages = region.layout.page_count();
  std::vector<uint64_t> entries(kEntriesPerRead);
  PageRangeSet lost;  // not in the page table
  {
    Stretches written(&written_[index]);
    Stretches unmapped(&lost);
    for (uint64_t first = 0; first < pages; first += entries.size()) {
      entries.resize(std::min<uint64_t>(pages - first, kEntriesPerRead));
      RETURN_IF_ERROR(ReadEntries(memory_.pagemap.get(),
                                  memory_.host_addresses[index] + first * kPageBytes, entries));
      for (size_t i = 0; i < entries.size(); ++i) {
        if ((entries[i] & kPagemapSoftDirty) != 0) {
          written.Add(first + i);
        } else if ((entries[i] & kEntryPresent) == 0) {
          unmapped.Add(first + i);
        }
      }
    }
  }
  if (lost.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(PageRangeSet data, ReadDataPages(region, RamFileKind::kTmpfs));
  Intersection(lost, data).ForEach([&](PageRange range) {
    written_[index].Add(range.first, range.end);
  });
  return absl::OkStatus();
}

absl::Status SoftDirtyTracker::Collect() {
  for (RegionIndex region = 0; region < regions_.size(); ++region) {
    RETURN_IF_ERROR(CollectRegion(region));
  }
  return absl::OkStatus();
}

absl::Status SoftDirtyTracker::Scan(std::span<const PageRun> runs, AfterScan after,
                                    PageSet* written) {
  RETURN_IF_ERROR(Collect());
  if (after == AfterScan::kClean) RETURN_IF_ERROR(ClearBits());
  for (const PageRun& run : runs) {
    FAULTLINE_CHECK(run.region < regions_.size());
    FAULTLINE_CHECK(run.first <= run.end() &&
                    run.end() <= regions_[run.region].layout.page_count());
    if (run.empty()) continue;
    PageRangeSet asked;
    asked.Add(run.first, run.end());
    PageRangeSet& all = written_[run.region];
    Intersection(all, asked).ForEach([&](PageRange range) {
      written->Add({run.region, range.first, range.count()});
    });
    if (after == AfterScan::kClean) all.Remove(run.first, run.end());
  }
  return absl::OkStatus();
}

}  // namespace faultline
