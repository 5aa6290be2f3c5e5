// A VM on the destination whose source is lost for good: what can still be done with it.
#ifndef FAULTLINE_ASSEMBLY_VM_ABANDON_H_
#define FAULTLINE_ASSEMBLY_VM_ABANDON_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "memory/ram_dump.h"
#include "seams/journal.h"

namespace faultline {

// As long as one lives, no engine can take the VM over: it holds the hook's connection. Its monitor
// is never asked, because QEMU may wait for a page that does not come. One thread.
class AbandonedVm {
 public:
  virtual ~AbandonedVm() = default;

  // Copies the pages that are there into `file`, which is empty. The VM's process is stopped
  // (SIGSTOP) meanwhile, and goes on afterwards as before, until it needs a page that is missing.
  virtual absl::StatusOr<std::vector<DumpedRegion>> Dump(int file) = 0;

  // Whether the VM runs under KVM: there the guest gets a machine check for a poisoned page, and
  // without it QEMU dies of a SIGBUS.
  virtual absl::StatusOr<bool> UsesKvm() = 0;
  // Poisons all pages that are missing, then lets the memory go: no hole is left that would read as
  // zeros. The last thing to be done with this object. Returns how many there were. After an error
  // the VM stands still as before, and this can be tried again.
  virtual absl::StatusOr<uint64_t> Poison() = 0;
};

// Takes hold of the VM through the hook of its QEMU. `regions` are those of the migration's
// journal. The error says what is not as it was.
absl::StatusOr<std::unique_ptr<AbandonedVm>> TakeAbandonedVm(const std::string& hook_path,
                                                             std::span<const KeptRegion> regions);

}  // namespace faultline

#endif  // FAULTLINE_ASSEMBLY_VM_ABANDON_H_
