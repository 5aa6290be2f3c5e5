// Dirty tracking by the kernel's soft-dirty bits, for kernels before 6.7 that are built with them
// (Documentation/admin-guide/mm/soft-dirty.rst). Every call looks at the whole VM, and is right
// only while the VM stands still.
#ifndef FAULTLINE_MEMORY_SOFT_DIRTY_TRACKER_H_
#define FAULTLINE_MEMORY_SOFT_DIRTY_TRACKER_H_

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/file_descriptor.h"
#include "memory/ram_file.h"
#include "seams/dirty_tracker.h"
#include "seams/vm_description.h"

namespace faultline {

// What the VM's process lends: descriptors of its own /proc files, and where the regions are there.
struct SoftDirtyMemory {
  FileDescriptor pagemap;
  FileDescriptor clear_refs;
  std::vector<uint64_t> host_addresses;
};

// Whether the text of /proc/swaps names a swap area.
bool NamesSwapArea(std::string_view swaps);

// A page that is in the RAM file and not in the page table (reclaimed, never touched, part of a
// range that became huge) has lost its bit, and counts as written at every scan.
class SoftDirtyTracker : public DirtyTracker {
 public:
  // The regions' files outlive it. FailedPrecondition: a region on hugetlbfs, whose pages have no
  // such bit; a host that swaps, where a page that was written, taken out and read again looks
  // clean.
  static absl::StatusOr<std::unique_ptr<SoftDirtyTracker>> Make(std::span<const RamRegion> regions,
                                                                SoftDirtyMemory memory);

  bool needs_paused_vm() const override { return true; }
  std::string_view mechanism() const override { return "soft-dirty"; }
  absl::Status Start() override;
  absl::Status Scan(std::span<const PageRun> runs, AfterScan after, PageSet* written) override;
  // There is nothing to take back: a page that is clean costs its next first write one fault more.
  absl::Status Stop() override { return absl::OkStatus(); }

 private:
  SoftDirtyTracker(std::span<const RamRegion> regions, SoftDirtyMemory memory)
      : regions_(regions.begin(), regions.end()),
        memory_(std::move(memory)),
        written_(regions.size()) {}

  // Adds what was written to `written_`, for every region.
  absl::Status Collect();
  absl::Status CollectRegion(RegionIndex index);
  absl::Status ClearBits() const;

  const std::vector<RamRegion> regions_;
  const SoftDirtyMemory memory_;
  std::vector<PageRangeSet> written_;  // of each region, since the last scan that covered it
};

}  // namespace faultline

#endif  // FAULTLINE_MEMORY_SOFT_DIRTY_TRACKER_H_
