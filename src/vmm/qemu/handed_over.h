// A source's VM after the handover: it may never run again here.
#ifndef FAULTLINE_VMM_QEMU_HANDED_OVER_H_
#define FAULTLINE_VMM_QEMU_HANDED_OVER_H_

#include <string>

#include "base/status.h"
#include "vmm/qemu/qmp_client.h"

namespace faultline {

// Whether QEMU has said by now that the VM runs, since its events were last looked at. Does not
// wait.
bool WasLetRun(QmpClient* qmp);

// An error once QEMU has said that the VM runs: its memory here is no longer what the destination
// needs. `qmp` may be null, which knows nothing. Does not wait.
absl::Status CheckStandsStill(QmpClient* qmp);

// Ok for the status of query-status that a migration leaves. Any other means that somebody let the
// VM run, even if it was stopped again.
absl::Status CheckHandedOverStatus(const std::string& status);

}  // namespace faultline

#endif  // FAULTLINE_VMM_QEMU_HANDED_OVER_H_
