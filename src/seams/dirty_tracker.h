// Which pages of a running source VM were written: what pre-copy sends again.
#ifndef FAULTLINE_SEAMS_DIRTY_TRACKER_H_
#define FAULTLINE_SEAMS_DIRTY_TRACKER_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/status.h"
#include "pages/page_set.h"
#include "pages/page_types.h"
#include "seams/vm_description.h"

namespace faultline {

// What a scan leaves behind.
enum class AfterScan : uint8_t {
  kClean = 1,   // what was reported counts as clean, and is protected anew
  kAsItIs = 2,  // nothing is changed: it is reported again by the next scan. Cheaper
};

// Pages are those of the region's own layout: a write into a huge page makes all of it written.
//
// Every write through the VM's own mapping counts, by its CPUs (KVM too) and by its devices.
// What a page's taking out of memory (a balloon's punch) does to its bytes is no write: whoever
// tracks compares the source's allocation map as well.
//
// Any thread, one call at a time. Errors are sentences for people; after one from Start or Scan the
// answers so far are void, and Stop is all that is left to call.
class DirtyTracker {
 public:
  // Stops what has not been stopped.
  virtual ~DirtyTracker() = default;

  // Whether Start and each Scan miss writes unless the VM stands still with its I/O drained
  // (SourceVmm::SetPaused) from before the call until after it: with disks that bypass the page
  // cache, data lands in pages after the kernel has counted the write; and a kernel without
  // write-protection by userfaultfd loses what is written during a scan. Constant.
  virtual bool needs_paused_vm() const = 0;
  // The mechanism's name, for reports: "uffd-wp", "soft-dirty". Constant.
  virtual std::string_view mechanism() const = 0;

  // From its return on all pages count as clean, and writing one costs the VM about a microsecond
  // the first time. About 30 ms for each GiB of small pages; huge page mappings are split. Once.
  virtual absl::Status Start() = 0;
  // Adds the pages of `runs` written since Start, or since the last Scan that covered them and left
  // them clean, to `written`, a set of the VM's layout. A page is reported or stays clean as one: a
  // write that races with the scan is in this one or in the next, and who reads the page's bytes
  // after the return sees every write that this one reported. For each GiB of small pages 0.5 ms if
  // nothing was written, 15 ms if every page was; some microseconds for a run of a few. Soft-dirty
  // looks at the whole VM each time, so give it all runs in one call. What it costs the VM is the
  // next first write to each page that it reports: scan what is about to be sent, not everything
  // often. Between Start and Stop.
  virtual absl::Status Scan(std::span<const PageRun> runs, AfterScan after, PageSet* written) = 0;
  // Leaves no protection behind: the VM is at full speed, but for huge page mappings, which the
  // kernel makes anew with time. At any moment, also twice; after it nothing else is called.
  // About 30 ms for a GiB, in which the VM's process cannot change its mappings; not needed for a
  // VM that was handed over. What ends this process does the same.
  virtual absl::Status Stop() = 0;
};

// Takes hold of what tracking needs.
class DirtyTrackerFactory {
 public:
  virtual ~DirtyTrackerFactory() = default;
  // Checks that the VM's writes can be tracked, and prepares it; the VM runs on, unslowed. Before
  // this process gives up its capabilities. The files in `vm` outlive the tracker. Control thread;
  // milliseconds. FailedPrecondition or Unimplemented: the sentence says what is missing and that
  // plain post-copy works.
  virtual absl::StatusOr<std::unique_ptr<DirtyTracker>> Open(const VmDescription& vm) = 0;
};

}  // namespace faultline

#endif  // FAULTLINE_SEAMS_DIRTY_TRACKER_H_
