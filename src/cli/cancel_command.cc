#include "cli/cancel_command.h"

#include <fmt/format.h>

#include <algorithm>
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

// What a running migration is asked for, and in which words it is told of.
struct Wish {
  const char* command = "";
  OutputJson request;
  const char* refused = "";  // "was not cancelled"
  const char* asked = "";    // "to stop"
  bool source_only = false;
};

absl::Status Ask(const RunningSession& session, const Wish& wish) {
  ASSIGN_OR_RETURN(std::string answer, AskSession(session.file.path, ToLine(wish.request)));
  std::string error;
  if (!ReadText(answer, "error", &error)) return absl::OkStatus();
  return absl::FailedPreconditionError(
      fmt::format("migration {} ({}) {}: {}", session.file.migration_id,
                  RoleName(session.file.role), wish.refused, error));
}

ExitStatus AskAll(const std::string& run_directory, const std::string& id, const Wish& wish) {
  if (absl::Status status = CheckId(id); !status.ok()) return UsageError(status, wish.command);
  absl::StatusOr<RunDirectory> directory = RunDirectory::Open(run_directory);
  if (!directory.ok()) return CommandError(directory.status());
  absl::StatusOr<std::vector<RunningSession>> sessions = Choose(*directory, id);
  if (!sessions.ok()) return CommandError(sessions.status());
  const bool has_source = std::ranges::any_of(
      *sessions, [](const RunningSession& one) { return one.file.role == Role::kSource; });
  ExitStatus exit_status = ExitStatus::kDone;
  std::string text;
  for (const RunningSession& session : *sessions) {
    if (wish.source_only && has_source && session.file.role != Role::kSource) continue;
    if (absl::Status asked = Ask(session, wish); !asked.ok()) {
      exit_status = CommandError(asked);
      continue;
    }
    text += fmt::format("Asked migration {} ({}) {}; its own command says how it {}.\n",
                        session.file.migration_id, RoleName(session.file.role), wish.asked,
                        wish.source_only ? "goes on" : "ended");
  }
  return WriteOut(text, exit_status);
}

}  // namespace

ExitStatus RunCancel(const std::string& run_directory, const std::string& id) {
  return AskAll(
      run_directory, id,
      {.command = "cancel",
       .request = {{"request", "cancel"}, {"reason", "cancelled with 'faultline cancel'"}},
       .refused = "was not cancelled",
       .asked = "to stop"});
}

ExitStatus RunPostCopyNow(const std::string& run_directory, const std::string& id) {
  return AskAll(run_directory, id,
                {.command = "postcopy-now",
                 .request = {{"request", "postcopy-now"}},
                 .refused = "was not asked to switch",
                 .asked = "to switch to post-copy",
                 .source_only = true});
}

}  // namespace faultline
