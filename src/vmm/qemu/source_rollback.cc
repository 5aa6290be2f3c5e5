#include "vmm/qemu/source_rollback.h"

#include <fmt/format.h>

#include <chrono>
#include <thread>

#include "base/json_text.h"

namespace faultline {
namespace {

constexpr int64_t kFlushTimeoutMs = 60000;
// How long the image lock may still be held by a destination that is about to end.
constexpr int64_t kStartTimeoutMs = 10000;
constexpr std::chrono::milliseconds kPause{2};
// Looks with a pause between two: QEMU may take long to answer one, and has done nothing meanwhile.
constexpr int kLooksWhileItSaves = 500 / kPause.count();
constexpr int kLooksOnceCancelled = 15000 / kPause.count();

bool IsOver(const std::string& migration_status) {
  return migration_status.empty() || migration_status == "none" ||
         migration_status == "completed" || migration_status == "failed" ||
         migration_status == "cancelled";
}

// Returns how the migration ended.
absl::StatusOr<std::string> EndMigration(QmpClient* qmp) {
  bool cancelled = false;
  for (int looks = 0;; ++looks) {
    // QEMU answers nothing while it flushes a disk.
    ASSIGN_OR_RETURN(Json migration,
                     qmp->Execute("query-migrate", Json::object(), kFlushTimeoutMs));
    std::string status = JsonText(migration, "status");
    if (IsOver(status)) return status;
    // Not while the devices are being saved, which ends by itself in a moment: a cancel then makes
    // QEMU 7.2 run the VM with its disks still given up, and abort at the guest's next write. Where
    // QEMU does not pause before the switch, "active" may be just before that.
    const bool ends_soon = status == "device" || status == "active" || status == "setup";
    if (!cancelled && (!ends_soon || looks >= kLooksWhileItSaves)) {
      RETURN_IF_ERROR(qmp->Execute("migrate_cancel").status());
      cancelled = true;
      looks = 0;
    }
    if (status == "cancelling") {
      // QEMU 7.2 misses a cancel that comes between the VM's stop and pre-switchover, and waits
      // there for good. This wakes it; where nobody waits it does nothing.
      qmp->Execute("migrate-continue", {{"state", "cancelling"}}).IgnoreError();
    }
    if (looks > kLooksOnceCancelled) {
      return absl::DeadlineExceededError(
          fmt::format("QEMU does not end its migration (query-migrate says '{}')", status));
    }
    std::this_thread::sleep_for(kPause);
  }
}

// A VM that a migration of somebody else's has taken may run elsewhere.
absl::Status CheckNotTaken(QmpClient* qmp) {
  ASSIGN_OR_RETURN(Json answer, qmp->Execute("query-status"));
  const std::string status = JsonText(answer, "status");
  if (status != "postmigrate" && status != "finish-migrate") return absl::OkStatus();
  return absl::FailedPreconditionError(fmt::format(
      "somebody else's migration has taken the VM meanwhile: its status is '{}', and it "
      "is left as it stands ('cont' in its monitor is right only if it runs nowhere "
      "else)",
      status));
}

absl::Status PutBackToWork(QmpClient* qmp, const RollbackPlan& plan) {
  std::string ended;
  if (plan.migrating) {
    ASSIGN_OR_RETURN(ended, EndMigration(qmp));
  } else if (plan.was_running) {
    RETURN_IF_ERROR(CheckNotTaken(qmp));
  }
  if (!plan.was_running) return absl::OkStatus();
  RETURN_IF_ERROR(StartSourceVm(qmp));
  // It had been saved whole and a destination may have announced it.
  if (ended == "completed") AnnounceVm(qmp);
  return absl::OkStatus();
}

}  // namespace

absl::Status StartSourceVm(QmpClient* qmp) {
  Deadline deadline = Deadline::After(kStartTimeoutMs);
  absl::Status refused;
  bool continued = false;
  while (true) {
    ASSIGN_OR_RETURN(Json answer, qmp->Execute("query-status"));
    std::string status = JsonText(answer, "status");
    if (status == "running" && continued) return absl::OkStatus();
    // Also one that runs: QEMU 7.2 may have started it by itself after a cancel without taking its
    // disks back. 'cont' takes them, and changes nothing else for a VM that runs.
    if (status == "running" || status == "paused" || status == "postmigrate" ||
        status == "prelaunch") {
      // Refused while a destination that is about to end still holds the disks' locks.
      refused = qmp->Execute("cont").status();
      continued = refused.ok();
      if (continued) continue;
      if (!absl::IsFailedPrecondition(refused)) return refused;
    } else if (status != "finish-migrate") {
      // The VM has stopped for a reason of its own (guest shut down or panicked, disk full).
      return absl::FailedPreconditionError(
          fmt::format("the VM stands in status '{}', which 'cont' cannot mend", status));
    }
    if (deadline.expired()) {
      return absl::DeadlineExceededError(
          refused.ok() ? fmt::format("the VM stays in status '{}'", status) : MessageOf(refused));
    }
    std::this_thread::sleep_for(kPause);
  }
}

void AnnounceVm(QmpClient* qmp) {
  qmp->Execute("announce-self", {{"initial", 50}, {"max", 550}, {"rounds", 5}, {"step", 100}})
      .IgnoreError();
}

std::string EncodePlan(const RollbackPlan& plan) {
  Json capabilities = Json::array();
  for (const auto& [name, state] : plan.settings.capabilities) {
    capabilities.push_back({{"name", name}, {"state", state}});
  }
  Json encoded = {{"was_running", plan.was_running},
                  {"migrating", plan.migrating},
                  {"capabilities", std::move(capabilities)},
                  {"max_bandwidth", plan.settings.max_bandwidth},
                  {"discard_data", plan.settings.discard_data}};
  return encoded.dump();
}

absl::StatusOr<RollbackPlan> DecodePlan(const std::string& text) {
  Json encoded = ParseJson<Json>(text);
  if (!JsonMember(encoded, "was_running").is_boolean()) {
    return absl::InvalidArgumentError(fmt::format("no rollback plan: '{}'", text));
  }
  RollbackPlan plan;
  plan.was_running = JsonFlag(encoded, "was_running");
  plan.migrating = JsonFlag(encoded, "migrating");
  for (const Json& entry : JsonMember(encoded, "capabilities")) {
    plan.settings.capabilities.emplace_back(JsonText(entry, "name"), JsonFlag(entry, "state"));
  }
  plan.settings.max_bandwidth = JsonNumber(encoded, "max_bandwidth");
  for (const Json& entry : JsonMember(encoded, "discard_data")) {
    plan.settings.discard_data.push_back(JsonText(entry));
  }
  return plan;
}

absl::Status RollBackSource(QmpClient* qmp, const RollbackPlan& plan) {
  if (absl::Status status = PutBackToWork(qmp, plan); !status.ok()) {
    return Annotate(status, plan.migrating
                                ? "the VM could not be put back to work on the source (try "
                                  "'migrate_cancel' and 'cont' in its monitor)"
                                : "the VM could not be put back to work on the source");
  }
  return Annotate(RestoreSettings(qmp, plan.settings),
                  "the VM is back on the source, but QEMU's migration settings could not be put "
                  "back");
}

}  // namespace faultline
