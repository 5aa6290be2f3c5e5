// A process that stands still while somebody looks at its memory.
#ifndef FAULTLINE_ASSEMBLY_STOPPED_PROCESS_H_
#define FAULTLINE_ASSEMBLY_STOPPED_PROCESS_H_

#include <signal.h>
#include <sys/types.h>

#include <memory>

#include "base/status.h"

namespace faultline {

// Stops the process on construction and lets it go on on destruction. In between, the signals that
// a terminal sends wait, so that this process does not end and leave the other one stopped.
//
// A thread that waits for a page of memory under userfaultfd stands still as well, whether the
// SIGSTOP reaches it or not: it goes on only when the page comes, so whoever uses this sees to it
// that none does meanwhile. One thread.
class StoppedProcess {
 public:
  // Returns when none of its threads runs any more: they are stopped, or the kernel holds them in a
  // fault on a missing page. DeadlineExceeded if that takes more than some two seconds; the process
  // runs again then.
  static absl::StatusOr<std::unique_ptr<StoppedProcess>> Stop(pid_t pid);
  ~StoppedProcess();
  StoppedProcess(const StoppedProcess&) = delete;
  StoppedProcess& operator=(const StoppedProcess&) = delete;

 private:
  explicit StoppedProcess(pid_t pid);

  const pid_t pid_;
  sigset_t blocked_before_;
};

}  // namespace faultline

#endif  // FAULTLINE_ASSEMBLY_STOPPED_PROCESS_H_
