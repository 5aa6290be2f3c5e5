// Whether a VM can be migrated: decisions on facts. Pure; each refusal is one sentence that names
// the cause and what mends it (FailedPrecondition).
#ifndef FAULTLINE_VMM_QEMU_VM_CHECKS_H_
#define FAULTLINE_VMM_QEMU_VM_CHECKS_H_

#include <string>
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

// Whether the VM can leave: running or paused, no migration under way, nothing in it that touches
// its memory behind QEMU's back, all of its RAM in blocks that Faultline moves.
absl::Status CheckSource(const VmFacts& facts);
// The same for a VM that arrives: QEMU waits with -incoming defer, its memory not locked.
absl::Status CheckDestination(const VmFacts& facts);
// Whether userfaultfd works on the files (the file_system and mount_options of the facts).
absl::Status CheckFiles(const VmFacts& facts);

// A balloon or virtio-mem is present.
bool GuestMayDiscard(const VmFacts& facts);

// A disk's data goes from the host's kernel into the guest's pages by DMA, unseen by whoever tracks
// writes; all of it stands while the VM is stopped. What QEMU does not tell counts as such.
bool HasDirectIo(const VmFacts& facts);
// Why writes into the VM's memory cannot be tracked, not even around a stopped VM; empty if they
// can. Devices that CheckSource refuses are not named again.
std::string WhyUntrackable(const VmFacts& facts);

}  // namespace faultline

#endif  // FAULTLINE_VMM_QEMU_VM_CHECKS_H_
