#include "vmm/qemu/migration_settings.h"

#include <initializer_list>

namespace faultline {
namespace {

// Far above any socket: the device stream is small and every millisecond of it is downtime.
constexpr uint64_t kMaxBandwidthBytesPerSecond = uint64_t{64} << 30;

Json CapabilityList(const std::vector<std::pair<std::string, bool>>& capabilities) {
  Json list = Json::array();
  for (const auto& [name, state] : capabilities) {
    list.push_back({{"capability", name}, {"state", state}});
  }
  return {{"capabilities", std::move(list)}};
}

absl::Status SetCapabilities(QmpClient* qmp, const VmFacts& facts,
                             std::initializer_list<const char*> names, SettingsBackup* backup) {
  std::vector<std::pair<std::string, bool>> wanted;
  for (const char* name : names) {
    auto found = facts.capabilities.find(name);
    if (found == facts.capabilities.end()) continue;
    backup->capabilities.emplace_back(name, found->second);
    wanted.emplace_back(name, true);
  }
  return qmp->Execute("migrate-set-capabilities", CapabilityList(wanted)).status();
}

absl::Status SetDiscardData(QmpClient* qmp, const std::string& backend, bool value) {
  return qmp
      ->Execute("qom-set",
                {{"path", "/objects/" + backend}, {"property", "discard-data"}, {"value", value}})
      .status();
}

}  // namespace

absl::Status DoNotPauseBeforeSwitch(QmpClient* qmp) {
  return qmp
      ->Execute("migrate-set-capabilities", CapabilityList({{"pause-before-switchover", false}}))
      .status();
}

absl::Status ApplySourceSettings(QmpClient* qmp, const VmFacts& facts, SettingsBackup* backup) {
  RETURN_IF_ERROR(SetCapabilities(
      qmp, facts, {"x-ignore-shared", "pause-before-switchover", "events"}, backup));
  backup->max_bandwidth = facts.max_bandwidth;
  RETURN_IF_ERROR(
      qmp->Execute("migrate-set-parameters", {{"max-bandwidth", kMaxBandwidthBytesPerSecond}})
          .status());
  for (const MemoryBackend& backend : facts.backends) {
    if (!backend.discard_data) continue;
    backup->discard_data.push_back(backend.id);
    RETURN_IF_ERROR(SetDiscardData(qmp, backend.id, false));
  }
  return absl::OkStatus();
}

absl::Status ApplyDestinationSettings(QmpClient* qmp, const VmFacts& facts,
                                      SettingsBackup* backup) {
  return SetCapabilities(qmp, facts, {"x-ignore-shared", "late-block-activate", "events"}, backup);
}

absl::Status RestoreSettings(QmpClient* qmp, const SettingsBackup& backup) {
  if (!backup.capabilities.empty()) {
    RETURN_IF_ERROR(
        qmp->Execute("migrate-set-capabilities", CapabilityList(backup.capabilities)).status());
  }
  if (backup.max_bandwidth != 0) {
    RETURN_IF_ERROR(
        qmp->Execute("migrate-set-parameters", {{"max-bandwidth", backup.max_bandwidth}}).status());
  }
  for (const std::string& backend : backup.discard_data) {
    RETURN_IF_ERROR(SetDiscardData(qmp, backend, true));
  }
  return absl::OkStatus();
}

absl::Status ResetCapabilities(QmpClient* qmp) {
  ASSIGN_OR_RETURN(Json known, qmp->Execute("query-migrate-capabilities"));
  SettingsBackup settings;
  for (const Json& entry : known) {
    for (const char* name :
         {"x-ignore-shared", "pause-before-switchover", "late-block-activate", "events"}) {
      if (JsonText(entry, "capability") == name) settings.capabilities.emplace_back(name, false);
    }
  }
  return RestoreSettings(qmp, settings);
}

}  // namespace faultline
