// Putting a VM back to work on the source: what the driver does when a migration fails, and the
// guardian when the driver's process has died.
#ifndef FAULTLINE_VMM_QEMU_SOURCE_ROLLBACK_H_
#define FAULTLINE_VMM_QEMU_SOURCE_ROLLBACK_H_

#include <string>

#include "base/status.h"
#include "vmm/qemu/migration_settings.h"
#include "vmm/qemu/qmp_client.h"

namespace faultline {

struct RollbackPlan {
  bool was_running = false;
  bool migrating =
      false;  // QEMU may have been asked for a migration by us; if not, one is not ours
  SettingsBackup settings;
};

std::string EncodePlan(const RollbackPlan& plan);
absl::StatusOr<RollbackPlan> DecodePlan(const std::string& text);

// Runs a VM that stands on the source, and waits until it runs; for ten seconds it tries again
// where a disk is still locked by a destination that is about to end. DeadlineExceeded with QEMU's
// reason; FailedPrecondition: the VM has stopped for a reason that `cont` does not mend.
absl::Status StartSourceVm(QmpClient* qmp);

// After the start: tells the network where the VM is now. Not worth failing for.
void AnnounceVm(QmpClient* qmp);

// Ends our migration in QEMU, if there is one, from whatever state it is in; starts the VM if it
// ran before; puts the settings back. Safe to run twice. The VM must not have been handed over.
// Errors tell how to start the VM by hand. FailedPrecondition: somebody else's migration has taken
// it.
absl::Status RollBackSource(QmpClient* qmp, const RollbackPlan& plan);

}  // namespace faultline

#endif  // FAULTLINE_VMM_QEMU_SOURCE_ROLLBACK_H_
