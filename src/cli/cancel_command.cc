#include "cli/cancel_command.h"

#include <fmt/format.h>

#include <set>

#include "cli/status_command.h"
#include "cli/status_server.h"
#include "cli/usage.h"

namespace faultline {
namespace {

// The sessions of the one migration that `id` names.
absl::StatusOr<std::vector<RunningSession>> Choose(const RunDirectory& directory,
                                                   const std::string& id) {
  ASSIGN_OR_RETURN(std::vector<RunningSession> running, FindRunning(directory));
  std::vector<RunningSession> chosen;
  std::set<std::string> ids;
  for (RunningSession& session : running) {
    if (!IdMatches(id, session.file.migration_id)) continue;
    ids.insert(session.file.migration_id);
    chosen.push_back(std::move(session));
  }
  if (ids.empty()) {
    return absl::NotFoundError(fmt::format(
        "no running migration here has an id that begins with '{}': 'faultline status' lists those "
        "of this user on this host (run directory '{}')",
        id, directory.path()));
  }
  if (ids.size() > 1) {
    return absl::FailedPreconditionError(fmt::format(
        "{} running migrations have ids that begin with '{}': give more digits", ids.size(), id));
  }
  return chosen;
}

absl::Status AskToStop(const RunningSession& session) {
  ASSIGN_OR_RETURN(std::string answer,
                   AskSession(session.file.path, ToLine({{"request", "cancel"},
                                                         {"reason",
                                                          "cancelled with "
                                                          "'faultline cancel'"}})));
  std::string error;
  if (!ReadText(answer, "error", &error)) return absl::OkStatus();
  return absl::FailedPreconditionError(fmt::format("migration {} ({}) was not cancelled: {}",
                                                   session.file.migration_id,
                                                   RoleName(session.file.role), error));
}

}  // namespace

ExitStatus RunCancel(const std::string& run_directory, const std::string& id) {
  if (absl::Status status = CheckId(id); !status.ok()) return UsageError(status, "cancel");
  absl::StatusOr<RunDirectory> directory = RunDirectory::Open(run_directory);
  if (!directory.ok()) return CommandError(directory.status());
  absl::StatusOr<std::vector<RunningSession>> sessions = Choose(*directory, id);
  if (!sessions.ok()) return CommandError(sessions.status());
  ExitStatus exit_status = ExitStatus::kDone;
  std::string text;
  for (const RunningSession& session : *sessions) {
    if (absl::Status asked = AskToStop(session); !asked.ok()) {
      exit_status = CommandError(asked);
      continue;
    }
    text += fmt::format("Asked migration {} ({}) to stop; its own command says how it ended.\n",
                        session.file.migration_id, RoleName(session.file.role));
  }
  return WriteOut(text, exit_status);
}

}  // namespace faultline
