#include "cli/reclaim_command.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <ctime>
#include <utility>
#include <vector>

#include "cli/confirmation.h"
#include "cli/lone_migration.h"
#include "cli/report_json.h"
#include "cli/run_directory.h"
#include "cli/session_record.h"
#include "cli/status_command.h"
#include "cli/usage.h"

namespace faultline {
namespace {

// What the operator must know before they say that the destination is dead.
std::vector<std::string> Consequences(const Unfinished& one) {
  return {
      "everything the guest has done at the destination since then is lost: its memory goes back "
      "to that moment, and what it told others over the network it has never said",
      "its disks do not go back: what the destination wrote is on them, and the guest here does "
      "not know of it; its file systems can be damaged by that. Check them, or put the disks back "
      "to a snapshot from before the handover",
      "if the destination's QEMU lives, two VMs run with one identity, and write to the same disks "
      "wherever nothing locks them (QEMU locks image files, not devices)",
      fmt::format("'faultline migrate --resume {}' is refused from then on, and a destination that "
                  "comes back gets no more memory",
                  one.migration_id),
  };
}

// Nothing is written to the journal after the handover, so its last change was then.
std::string HandedOverAt(const Unfinished& one) {
  struct stat info;
  if (stat(one.journal_path.c_str(), &info) < 0) return "at a time that is not known";
  return fmt::format("on {:%Y-%m-%d at %H:%M:%S} UTC", fmt::gmtime(info.st_mtime));
}

ExitStatus Explain(const Unfinished& one, bool json) {
  const Confirmation confirmation{
      .summary = fmt::format(
          "migration {} handed this VM over to {} {}. Reclaiming it makes it this host's again{}",
          one.migration_id, one.record.endpoint, HandedOverAt(one),
          one.journal.kept->run ? " and runs it here" : "; it stays paused, as it was"),
      .consequences = Consequences(one),
      .mend =
          fmt::format("make sure that the destination's QEMU has ended or its host is off; then: "
                      "'faultline reclaim {} --i-know-the-destination-is-dead'",
                      one.migration_id)};
  return AskForConfirmation(confirmation,
                            {{"event", "confirmation-needed"},
                             {"id", one.migration_id},
                             {"role", RoleName(Role::kSource)},
                             {"endpoint", one.record.endpoint},
                             {"text", confirmation.summary}},
                            json);
}

absl::StatusOr<Unfinished> Find(const RunDirectory& directory, const ReclaimCommand& command) {
  ASSIGN_OR_RETURN(Unfinished found, FindLone(directory, Role::kSource, command.id, "reclaim"));
  if (!command.qmp.empty()) {
    ASSIGN_OR_RETURN(found.record.qmp_path, ParseSocketPath(command.qmp, "--qmp"));
  }
  return found;
}

ExitStatus Tell(const RunDirectory& directory, const Unfinished& one, const ReclaimResult& result,
                bool json) {
  for (const std::string& notice : result.notices) CommandError(absl::UnknownError(notice));
  ExitStatus exit_status = ExitStatus::kDone;
  if (!result.status.ok()) {
    CommandError(result.status);
    exit_status = result.owned ? ExitStatus::kFailed : ExitStatus::kPastHandover;
  }
  OutputJson object = {{"event", result.status.ok() ? "reclaimed" : "failed"},
                       {"id", one.migration_id},
                       {"role", RoleName(Role::kSource)},
                       {"vm_owner", result.owned ? "source" : "destination"},
                       {"vm_runs", result.runs}};
  if (!result.status.ok()) object["error"] = MessageOf(result.status);
  const std::string line = ToLine(object) + "\n";
  if (result.owned) WriteDecision(directory, Role::kSource, one.migration_id, line);
  if (json) return WriteOut(line, exit_status);
  if (!result.status.ok()) return exit_status;
  return WriteOut(fmt::format("Migration {}: the VM is this host's again{}. Its disks are as the "
                              "destination left them: check its file systems.\n",
                              one.migration_id,
                              result.runs ? " and runs here"
                                          : "; it is paused ('cont' in its monitor runs it)"),
                  exit_status);
}

}  // namespace

ExitStatus RunReclaim(const CommandParts& parts, const ReclaimCommand& command) {
  if (!command.id.empty()) {
    if (absl::Status id = CheckId(command.id); !id.ok()) return UsageError(id, "reclaim");
  }
  absl::StatusOr<RunDirectory> directory = RunDirectory::Open(command.run_directory);
  if (!directory.ok()) return UsageError(directory.status(), "reclaim");
  absl::StatusOr<Unfinished> one = Find(*directory, command);
  if (!one.ok()) return UsageError(one.status(), "reclaim");
  if (!command.destination_is_dead) return Explain(*one, command.json);

  absl::StatusOr<std::unique_ptr<Journal>> journal = LockLone(parts, *one, Role::kSource);
  if (!journal.ok()) return UsageError(journal.status(), "reclaim");
  ReclaimResult result = parts.reclaim_vm(one->record.qmp_path, *one->journal.kept, journal->get());
  return Tell(*directory, *one, result, command.json);
}

}  // namespace faultline
