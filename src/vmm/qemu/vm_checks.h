// Whether a VM can be migrated: decisions on facts. Pure; each refusal is one sentence that names
// the cause and what mends it (FailedPrecondition).
#ifndef FAULTLINE_VMM_QEMU_VM_CHECKS_H_
#define FAULTLINE_VMM_QEMU_VM_CHECKS_H_

#include <vector>

#include "base/status.h"
#include "vmm/qemu/vm_facts.h"

namespace faultline {

// A RAM block that QEMU leaves out of its own stream, and the backend that holds it.
struct MigratedBlock {
  RamBlock block;
  MemoryBackend backend;
};

// The blocks that Faultline moves. Refuses where QEMU would skip a block that is none of them, or
// would send guest RAM itself.
absl::StatusOr<std::vector<MigratedBlock>> SelectBlocks(const VmFacts& facts);

// All that holds for both sides: RAM, its files, devices that touch memory behind QEMU's back,
// capabilities.
absl::Status CheckVm(const VmFacts& facts);
// The source also has to run or to be paused, with no migration under way.
absl::Status CheckSource(const VmFacts& facts);
// The destination also has to wait with -incoming defer, its memory unlocked.
absl::Status CheckDestination(const VmFacts& facts);

// A balloon or virtio-mem is present.
bool GuestMayDiscard(const VmFacts& facts);

}  // namespace faultline

#endif  // FAULTLINE_VMM_QEMU_VM_CHECKS_H_
