// What must outlive a process: which migration, which side, how far, who owns the VM.
#ifndef FAULTLINE_SEAMS_JOURNAL_H_
#define FAULTLINE_SEAMS_JOURNAL_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "pages/memory_layout.h"
#include "protocol/messages.h"
#include "seams/vm_description.h"

namespace faultline {

// Journal values: never renumbered.
enum class JournalPhase : uint8_t {
  kPreparing = 1,
  kFrozen = 2,      // source: the VM is stopped for the handover
  kLoaded = 3,      // destination: the VM is loaded; only the source can say whose it is
  kCommitted = 4,   // the VM is the destination's
  kCompleted = 5,   // and the other side knows it
  kRolledBack = 6,  // the VM is the source's, for good
  // Source: an operator took the VM back after the handover, because its destination is lost. A
  // kCommitted after it says that this came to nothing: the VM is the destination's as before.
  kReclaimed = 7,
  // Destination: an operator gave the source up, and what was missing is poisoned.
  kAbandoned = 8,
  // Destination: all memory is here, and the VM does what it should. What is left is to let the
  // memory go, which may have happened, and to tell the source.
  kWhole = 9,
  // Destination: and its memory has been let go. What is left is to tell the source.
  kReleased = 10,
};

// A RAM block as another process finds it again: a file's path, and what tells that it is that file
// still.
struct KeptRegion {
  RegionLayout layout;
  std::string path;
  uint64_t file_offset_bytes = 0;
  uint64_t device = 0;
  uint64_t inode = 0;
  friend bool operator==(const KeptRegion&, const KeptRegion&) = default;
};

// What another process needs to know of a migration to take it up again when this one has died
// after the handover.
struct KeptTerms {
  MigrationId id{};
  SessionToken token{};
  bool run = true;         // as in Commit
  bool integrity = false;  // pages are checked end to end
  friend bool operator==(const KeptTerms&, const KeptTerms&) = default;
};
// The same, and where the VM's memory lies.
struct KeptMigration : KeptTerms {
  std::vector<KeptRegion> regions;
  friend bool operator==(const KeptMigration&, const KeptMigration&) = default;
};

class Journal {
 public:
  virtual ~Journal() = default;
  // Adds a record; fast (memory-backed), survives this process. Control thread.
  virtual absl::Status Record(JournalPhase phase) = 0;
  // Keeps what it takes to go on with the VM's migration in another process; the last call counts.
  // As fast and as lasting as Record. Does nothing where no other process could go on.
  virtual absl::Status Keep(const KeptTerms& terms, const VmDescription& vm) {
    (void)terms, (void)vm;
    return absl::OkStatus();
  }
  // Makes what was recorded survive the host. Takes as long as a disk does. Any thread, beside
  // Record on the control thread: what comes meanwhile may be in it or not.
  virtual absl::Status MakeDurable() = 0;
};

}  // namespace faultline

#endif  // FAULTLINE_SEAMS_JOURNAL_H_
