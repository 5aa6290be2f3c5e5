#include "assembly/vm_reclaim.h"

#include <fmt/format.h>

#include <memory>

#include "memory/ram_file_users.h"
#include "vmm/qemu/json_fields.h"
#include "vmm/qemu/migration_settings.h"
#include "vmm/qemu/qmp_client.h"
#include "vmm/qemu/source_rollback.h"

namespace faultline {
namespace {

absl::StatusOr<std::string> StatusOf(QmpClient* qmp) {
  ASSIGN_OR_RETURN(Json answer, qmp->Execute("query-status"));
  return JsonText(answer, "status");
}

// The VM's QEMU has its RAM file as long as it lives; where nobody has it, another VM is behind the
// monitor. (Who is at the socket's other end may be a proxy of the monitor's.)
absl::Status CheckRamInUse(const std::string& qmp_path, const KeptMigration& kept) {
  if (kept.regions.empty()) return absl::OkStatus();
  const KeptRegion& region = kept.regions.front();
  const FileIdentity file{static_cast<dev_t>(region.device), static_cast<ino_t>(region.inode)};
  ASSIGN_OR_RETURN(FileUsers users, FindFileUsers({&file, 1}));
  if (!users.users.empty() || users.hidden_process_count > 0) return absl::OkStatus();
  return absl::FailedPreconditionError(fmt::format(
      "the VM's own QEMU has ended: no process has its RAM file '{}' any more. The one behind the "
      "monitor '{}' is another VM's, and nothing was done to it",
      region.path, qmp_path));
}

absl::StatusOr<std::unique_ptr<QmpClient>> ConnectToVm(const std::string& qmp_path,
                                                       const KeptMigration& kept) {
  absl::StatusOr<std::unique_ptr<QmpClient>> qmp = QmpClient::Connect(qmp_path, nullptr);
  if (!qmp.ok()) {
    return Annotate(qmp.status(),
                    "the source's QEMU holds the VM's devices, and without it there is nothing to "
                    "take back");
  }
  RETURN_IF_ERROR(CheckRamInUse(qmp_path, kept));
  ASSIGN_OR_RETURN(std::string status, StatusOf(qmp->get()));
  // After somebody's 'cont' by hand it runs, or is paused if 'stop' followed.
  if (status == "postmigrate" || status == "running" || status == "paused") return qmp;
  return absl::FailedPreconditionError(
      fmt::format("the VM stands in status '{}' in the source's QEMU, not as a migration leaves it "
                  "('postmigrate'): is this another QEMU behind the monitor '{}'?",
                  status, qmp_path));
}

// The record reaches the disk if it can: this host may crash too.
void MakeDurable(Journal* journal, ReclaimResult* result) {
  absl::Status durable = journal->MakeDurable();
  if (durable.ok()) return;
  result->notices.push_back("the record does not survive this host's crash: " + MessageOf(durable));
}

void TakeRecordBack(QmpClient* qmp, Journal* journal, ReclaimResult* result) {
  absl::StatusOr<std::string> status = StatusOf(qmp);
  // Only a VM that has done nothing here is the destination's still.
  if (!status.ok() || *status != "postmigrate") return;
  if (absl::Status recorded = journal->Record(JournalPhase::kCommitted); !recorded.ok()) {
    result->notices.push_back("the journal cannot say that the VM is the destination's still: " +
                              MessageOf(recorded));
    return;
  }
  MakeDurable(journal, result);
  result->owned = false;
  result->status = Annotate(
      result->status,
      "the VM was not taken back and is the destination's as before. If a lock on a disk is the "
      "reason, the destination's QEMU lives: end it for good and reclaim again, or go on with "
      "'faultline migrate --resume'");
}

}  // namespace

ReclaimResult ReclaimVm(const std::string& qmp_path, const KeptMigration& kept, Journal* journal) {
  ReclaimResult result;
  absl::StatusOr<std::unique_ptr<QmpClient>> qmp = ConnectToVm(qmp_path, kept);
  result.status = qmp.status();
  if (!qmp.ok()) return result;
  result.status = journal->Record(JournalPhase::kReclaimed);
  if (!result.status.ok()) return result;
  result.owned = true;
  MakeDurable(journal, &result);
  if (kept.run) {
    result.status = StartSourceVm(qmp->get());
    if (!result.status.ok()) {
      TakeRecordBack(qmp->get(), journal, &result);
      return result;
    }
    AnnounceVm(qmp->get());
  }
  absl::StatusOr<std::string> status = StatusOf(qmp->get());
  result.runs = status.ok() && *status == "running";
  if (absl::Status reset = ResetCapabilities(qmp->get()); !reset.ok()) {
    result.notices.push_back("QEMU's migration capabilities stay as the migration set them: " +
                             MessageOf(reset));
  }
  return result;
}

}  // namespace faultline
