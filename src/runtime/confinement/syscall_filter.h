// Which system calls this process makes from now on (seccomp(2)).
#ifndef FAULTLINE_RUNTIME_CONFINEMENT_SYSCALL_FILTER_H_
#define FAULTLINE_RUNTIME_CONFINEMENT_SYSCALL_FILTER_H_

#include "base/status.h"

namespace faultline {

struct SyscallFilterOptions {
  bool advise_other_processes = false;  // process_madvise: making a VM's memory huge
};

// Lets all threads of this process, those of now and those to come, make the system calls of an
// engine at work, and no other. What it has no use for fails: with EPERM and a line in the kernel's
// log if only an intruder would try it (starting programs, tracing, mounting, new users, ...), with
// ENOSYS otherwise, so that a library takes another way. Nothing is killed: this process may hold
// a VM's only memory. Implies ForbidNewPrivileges for all threads. There is no way back.
absl::Status InstallSyscallFilter(const SyscallFilterOptions& options);

// Whether this kernel would take such a filter. Changes nothing.
absl::Status CheckSyscallFilter();

}  // namespace faultline

#endif  // FAULTLINE_RUNTIME_CONFINEMENT_SYSCALL_FILTER_H_
