// What must outlive a process: which migration, which side, how far, who owns the VM.
#ifndef FAULTLINE_SEAMS_JOURNAL_H_
#define FAULTLINE_SEAMS_JOURNAL_H_

#include <cstdint>
#include <string>

#include "base/status.h"

namespace faultline {

// Journal values: never renumbered.
enum class JournalPhase : uint8_t {
  kPreparing = 1,
  kFrozen = 2,     // source: the VM is stopped for the handover
  kLoaded = 3,     // destination: the VM is loaded; only the source can say whose it is
  kCommitted = 4,  // the VM is the destination's
  kCompleted = 5,
  kRolledBack = 6,  // the VM is the source's, for good
};

class Journal {
 public:
  virtual ~Journal() = default;
  // Adds a record; fast (memory-backed), survives this process. Control thread.
  virtual absl::Status Record(JournalPhase phase) = 0;
  // Makes what was recorded survive the host. May take milliseconds. Control thread.
  virtual absl::Status MakeDurable() = 0;
};

}  // namespace faultline

#endif  // FAULTLINE_SEAMS_JOURNAL_H_
