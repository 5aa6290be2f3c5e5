// How the `faultline` command ends. There are no others.
#ifndef FAULTLINE_CLI_EXIT_STATUS_H_
#define FAULTLINE_CLI_EXIT_STATUS_H_

#include "engine/session_report.h"

namespace faultline {

enum class ExitStatus : int {
  kDone = 0,
  kFailed = 1,        // a migration failed with the VM safe on the source; another command failed
  kUsage = 2,         // the command line or its options make no sense; nothing was done
  kPastHandover = 3,  // failed with the VM on the destination, paused or recoverable
};

// The exit status of a migration's end. Options that the session found senseless before it did
// anything never get this far: they are kUsage.
inline ExitStatus ExitStatusOf(const SessionResult& result) {
  if (result.status.ok()) return ExitStatus::kDone;
  return result.owner == VmOwner::kSource ? ExitStatus::kFailed : ExitStatus::kPastHandover;
}

}  // namespace faultline

#endif  // FAULTLINE_CLI_EXIT_STATUS_H_
