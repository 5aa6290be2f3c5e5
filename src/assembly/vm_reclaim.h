// Taking a VM back on the source after it was handed over to a destination that is lost.
#ifndef FAULTLINE_ASSEMBLY_VM_RECLAIM_H_
#define FAULTLINE_ASSEMBLY_VM_RECLAIM_H_

#include <string>
#include <vector>

#include "base/status.h"
#include "seams/journal.h"

namespace faultline {

struct ReclaimResult {
  absl::Status status;
  bool owned = false;  // the journal says that the VM is the source's
  bool runs = false;
  std::vector<std::string> notices;  // what did not work and does not matter for the VM
};

// Records in `journal`, which no other process has open and whose last record is kCommitted, that
// the VM behind the monitor `qmp_path` is the source's again, and runs it if `kept.run` is set; if
// not, it stays as it stands. Where no process has the RAM of `kept` any more, the QEMU there is
// another VM's, and is left alone. The record comes first: whatever happens after it, nobody serves
// the destination any more. If QEMU refuses to run the VM, which still stands as the migration left
// it, the record is taken back: a disk that is locked means that the destination lives. Blocks for
// up to ten seconds then.
ReclaimResult ReclaimVm(const std::string& qmp_path, const KeptMigration& kept, Journal* journal);

}  // namespace faultline

#endif  // FAULTLINE_ASSEMBLY_VM_RECLAIM_H_
