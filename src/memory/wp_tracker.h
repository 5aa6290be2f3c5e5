// Dirty tracking by userfaultfd's asynchronous write protection and PAGEMAP_SCAN (Linux 6.7), from
// outside the VM's process or in it.
#ifndef FAULTLINE_MEMORY_WP_TRACKER_H_
#define FAULTLINE_MEMORY_WP_TRACKER_H_

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file_descriptor.h"
#include "seams/dirty_tracker.h"
#include "seams/vm_description.h"

namespace faultline {

// The UFFD_FEATURE_* bits that tracking needs.
uint64_t DirtyTrackingUffdFeatures();

// RAM that is registered for write protection, in the process that has it mapped.
struct WpMemory {
  FileDescriptor uffd;
  FileDescriptor pagemap;                // /proc/PID/pagemap of that process
  std::vector<uint64_t> host_addresses;  // of each region, in that process
  // Takes the registration away, and all protection with it. Called once.
  std::function<absl::Status()> end;
};

class WpTracker : public DirtyTracker {
 public:
  // FailedPrecondition: `memory.pagemap` is none.
  static absl::StatusOr<std::unique_ptr<WpTracker>> Make(std::span<const RamRegion> regions,
                                                         WpMemory memory, bool needs_paused_vm);
  ~WpTracker() override;

  bool needs_paused_vm() const override { return needs_paused_vm_; }
  std::string_view mechanism() const override { return "uffd-wp"; }
  absl::Status Start() override;
  // Looks first, without a lock of the VM's, and protects around what it found: what stays clean is
  // not taken out of KVM's page tables.
  absl::Status Scan(std::span<const PageRun> runs, AfterScan after, PageSet* written) override;
  absl::Status Stop() override;

 private:
  struct Region {
    std::string name;
    uint64_t page_bytes = 0;
    uint64_t page_count = 0;
    uint64_t host_address = 0;
  };
  struct Stretch;  // of addresses

  WpTracker(std::vector<Region> regions, WpMemory memory, bool needs_paused_vm)
      : regions_(std::move(regions)),
        needs_paused_vm_(needs_paused_vm),
        memory_(std::move(memory)) {}

  absl::Status Protect(const Region& region) const;
  absl::Status ScanRun(PageRun run, AfterScan after, PageSet* written) const;
  // Calls `found` for the written stretches of [start, end), and protects them if asked.
  template <typename Found>
  absl::Status Walk(const Region& region, uint64_t start, uint64_t end, bool protect,
                    Found found) const;

  const std::vector<Region> regions_;
  const bool needs_paused_vm_;
  WpMemory memory_;  // `end` is empty once it was called
};

}  // namespace faultline

#endif  // FAULTLINE_MEMORY_WP_TRACKER_H_
