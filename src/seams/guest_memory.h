// The destination VM's memory: who waits for which page, and putting pages in.
#ifndef FAULTLINE_SEAMS_GUEST_MEMORY_H_
#define FAULTLINE_SEAMS_GUEST_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "pages/page_table.h"
#include "pages/page_types.h"
#include "seams/huge_page_maker.h"
#include "seams/vm_description.h"

namespace faultline {

// How one installation ended.
enum class InstallOutcome : uint8_t {
  kDone = 1,     // the page is there now, and who waited for it was woken
  kPresent = 2,  // a page was there already; it was left alone, and who waited was woken
  kRetry = 3,    // the mapping is changing: again after the next events have been read
  kNoSpace = 4,  // this host is out of memory for the VM: again when there is room
  kGone = 5,     // the mapping or its process is gone
  kFailed = 6,   // anything else: error_number says what
};

// How far an installation got: `pages` from the run's start were done or present, then `outcome`
// stopped it (kDone: the whole run; kPresent: page number `pages` was there already).
struct InstallResult {
  InstallOutcome outcome = InstallOutcome::kDone;
  uint64_t pages = 0;
  int error_number = 0;
};

// What was read from the kernel at one time.
struct MemoryEvents {
  std::vector<PageRun> discards;  // given up by the guest; apply before the faults
  std::vector<PageId> faults;     // somebody waits for this page

  void Clear() {
    discards.clear();
    faults.clear();
  }
};

class GuestMemory {
 public:
  // Called on the executor that the memory was made with.
  class Listener {
   public:
    virtual ~Listener() = default;
    // ReadEvents would find something.
    virtual void OnEventsReady() = 0;
  };

  virtual ~GuestMemory() = default;

  virtual PageTable& table() = 0;

  // Begins and ends the calls of `listener`. Own executor's thread.
  virtual void StartEvents(Listener* listener) = 0;
  virtual void StopEvents() = 0;
  // Appends all that waits to be read, without blocking. Own executor's thread. An error means that
  // the VM's process is gone.
  virtual absl::Status ReadEvents(MemoryEvents* events) = 0;

  // Puts whole pages into `run` and wakes who waits for them. data.size() is run.count pages. Never
  // overwrites a page that is there. Any thread; never blocks on events being read.
  virtual InstallResult Install(PageRun run, std::span<const std::byte> data) = 0;
  // The same with zeros.
  virtual InstallResult InstallZeros(PageRun run) = 0;
  // Takes pages out of the RAM file again if there are any in `run` (after a guest's discard).
  virtual absl::Status Punch(PageRun run) = 0;
  // Pre-copy: whether Overwrite and MakeMissing can be had here; else the sentence that says why.
  virtual absl::Status CheckPreCopy() const = 0;
  // Puts `data`, as long as the run, over pages that Install has put in and the table says so. Only
  // before the VM runs here or loads its devices. Any thread.
  virtual absl::Status Overwrite(PageRun run, std::span<const std::byte> data) = 0;
  // The pages were sent before and are old: they are taken out of the RAM file and are kMissing in
  // the table, whatever they were, so that a touch faults again; no discard is told. Only before
  // the VM runs here or loads its devices. Any thread; about 250 us for 2 MiB of small pages.
  virtual absl::Status MakeMissing(PageRun run) = 0;
  // Wakes who waits in `run`, so that they fault again or go on. Any thread.
  virtual absl::Status Wake(PageRun run) = 0;
  // Every page is there or is zero: holes become zeros from now on and no event comes any more. An
  // error: who touches a hole may wait still. The text is what the user is to know although nobody
  // waits; empty: nothing. Demand thread; may wait seconds for the VM's process.
  virtual absl::StatusOr<std::string> Disarm() = 0;
  // After Disarm: makes small pages of it huge. Null where nothing can. The maker ends before this.
  virtual std::unique_ptr<HugePageMaker> MakeHugePageMaker() { return nullptr; }
};

// Takes hold of a destination's memory.
class GuestMemoryFactory {
 public:
  virtual ~GuestMemoryFactory() = default;
  // Says early what Arm would refuse: before a source is invited. Leftovers in the memory are
  // thrown away already where Arm would. Control thread; may take seconds.
  virtual absl::Status Check(const VmDescription& vm) = 0;
  // Checks that the memory is empty (or may be emptied) and that the host has room for all of it,
  // then arms it: from the return on every touch of a missing page waits. Control thread; may take
  // milliseconds. The regions' order is the source's.
  virtual absl::StatusOr<std::unique_ptr<GuestMemory>> Arm(const VmDescription& vm) = 0;
  // Takes memory over that another process armed and died with: its page-state table is as that one
  // left it, but for pages that had landed without being noted. Whoever waits for a page faults
  // again. Null: nothing is armed (any more). Control thread; may take milliseconds.
  virtual absl::StatusOr<std::unique_ptr<GuestMemory>> TakeOver(const VmDescription& vm) {
    (void)vm;
    return absl::UnimplementedError("this memory ends with the process that armed it");
  }
};

}  // namespace faultline

#endif  // FAULTLINE_SEAMS_GUEST_MEMORY_H_
