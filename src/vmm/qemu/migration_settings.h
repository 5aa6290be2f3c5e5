// QEMU's migration settings as Faultline needs them, and what they were before.
#ifndef FAULTLINE_VMM_QEMU_MIGRATION_SETTINGS_H_
#define FAULTLINE_VMM_QEMU_MIGRATION_SETTINGS_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "vmm/qemu/qmp_client.h"
#include "vmm/qemu/vm_facts.h"

namespace faultline {

// What Restore puts back. Travels to the guardian as JSON.
struct SettingsBackup {
  std::vector<std::pair<std::string, bool>> capabilities;
  uint64_t max_bandwidth = 0;             // 0: was not changed
  std::vector<std::string> discard_data;  // backends whose discard-data was on
};

// What ApplySourceSettings will change: it may be undone before, in the middle and after.
SettingsBackup SourceSettingsBefore(const VmFacts& facts);
// Sets x-ignore-shared, pause-before-switchover and events, takes the limit off the device stream,
// and keeps QEMU from punching the RAM files when it quits.
absl::Status ApplySourceSettings(QmpClient* qmp, const VmFacts& facts);
// Undoes the pause of ApplySourceSettings.
absl::Status DoNotPauseBeforeSwitch(QmpClient* qmp);
// Sets x-ignore-shared, events and, where QEMU has it, late-block-activate.
absl::Status ApplyDestinationSettings(QmpClient* qmp, const VmFacts& facts, SettingsBackup* backup);
absl::Status RestoreSettings(QmpClient* qmp, const SettingsBackup& backup);
// For a process that does not know what they were: turns off every capability that the two above
// turn on, which is QEMU's default. The rest stays as it is.
absl::Status ResetCapabilities(QmpClient* qmp);

}  // namespace faultline

#endif  // FAULTLINE_VMM_QEMU_MIGRATION_SETTINGS_H_
