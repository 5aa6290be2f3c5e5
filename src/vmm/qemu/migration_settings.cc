#include "vmm/qemu/migration_settings.h"

#include <span>

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

using Capabilities = std::vector<std::pair<std::string, bool>>;

constexpr const char* kSourceCapabilities[] = {"x-ignore-shared", "pause-before-switchover",
                                               "events"};
constexpr const char* kDestinationCapabilities[] = {"x-ignore-shared", "late-block-activate",
                                                    "events"};

// Those of `names` that this QEMU has, and what they are.
Capabilities Known(const VmFacts& facts, std::span<const char* const> names) {
  Capabilities known;
  for (const char* name : names) {
    auto found = facts.capabilities.find(name);
    if (found != facts.capabilities.end()) known.emplace_back(name, found->second);
  }
  return known;
}

absl::Status TurnOn(QmpClient* qmp, Capabilities capabilities) {
  for (auto& [name, state] : capabilities) state = true;
  return qmp->Execute("migrate-set-capabilities", CapabilityList(capabilities)).status();
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

SettingsBackup SourceSettingsBefore(const VmFacts& facts) {
  SettingsBackup before{.capabilities = Known(facts, kSourceCapabilities),
                        .max_bandwidth = facts.max_bandwidth,
                        .discard_data = {}};
  for (const MemoryBackend& backend : facts.backends) {
    if (backend.discard_data) before.discard_data.push_back(backend.id);
  }
  return before;
}

absl::Status ApplySourceSettings(QmpClient* qmp, const VmFacts& facts) {
  RETURN_IF_ERROR(TurnOn(qmp, Known(facts, kSourceCapabilities)));
  RETURN_IF_ERROR(
      qmp->Execute("migrate-set-parameters", {{"max-bandwidth", kMaxBandwidthBytesPerSecond}})
          .status());
  for (const MemoryBackend& backend : facts.backends) {
    if (backend.discard_data) RETURN_IF_ERROR(SetDiscardData(qmp, backend.id, false));
  }
  return absl::OkStatus();
}

absl::Status ApplyDestinationSettings(QmpClient* qmp, const VmFacts& facts,
                                      SettingsBackup* backup) {
  backup->capabilities = Known(facts, kDestinationCapabilities);
  return TurnOn(qmp, backup->capabilities);
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
