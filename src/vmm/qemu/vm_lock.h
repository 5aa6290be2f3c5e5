// One command at a time moves a VM.
#ifndef FAULTLINE_VMM_QEMU_VM_LOCK_H_
#define FAULTLINE_VMM_QEMU_VM_LOCK_H_

#include <span>

#include "base/file_descriptor.h"
#include "base/status.h"
#include "vmm/qemu/cancel_event.h"

namespace faultline {

// Locks the first of a VM's RAM files (advisory, flock) for as long as that descriptor is open, in
// this process or in a guardian that has it. Whatever path the monitor has, two commands on one VM
// meet here. FailedPrecondition: another process has it still after a moment, for which a guardian
// may live longer than its command.
absl::Status LockVm(std::span<const FileDescriptor> ram_files, const CancelEvent* cancel);

}  // namespace faultline

#endif  // FAULTLINE_VMM_QEMU_VM_LOCK_H_
