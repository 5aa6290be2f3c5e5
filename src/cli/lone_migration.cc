#include "cli/lone_migration.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <utility>
#include <vector>

#include "base/file_descriptor.h"
#include "base/private_path.h"
#include "cli/status_command.h"
#include "cli/usage.h"

namespace faultline {

absl::StatusOr<Unfinished> FindLone(const RunDirectory& directory, Role role, const std::string& id,
                                    const std::string& verb) {
  absl::StatusOr<Unfinished> found = FindUnfinished(directory, role, id);
  absl::StatusOr<std::vector<RunningSession>> running = FindRunning(directory);
  if (found.ok() || !running.ok()) return found;
  for (const RunningSession& session : *running) {
    if (session.file.role != role || !IdMatches(id, session.file.migration_id)) continue;
    auto pid = session.state.find("pid");
    const std::string process = pid != session.state.end() ? pid->dump() : "?";
    return absl::FailedPreconditionError(fmt::format(
        "migration {} is being run by process {}, which goes on with it as soon as the other side "
        "comes back: end it first ('kill -KILL {}'; after the handover no other signal does), then "
        "{}",
        session.file.migration_id, process, process, verb));
  }
  return found;
}

absl::StatusOr<std::unique_ptr<Journal>> LockLone(const CommandParts& parts, const Unfinished& one,
                                                  Role role) {
  ASSIGN_OR_RETURN(std::unique_ptr<Journal> journal,
                   parts.open_journal({one.journal_path, role, one.migration_id}));
  // Once more, now that nobody else can write to it.
  ASSIGN_OR_RETURN(JournalContent content, ReadJournal(one.journal_path));
  if (std::string why = WhyNotUnfinished(content, role); !why.empty()) {
    return absl::FailedPreconditionError(
        fmt::format("nothing is left to decide about migration {}: {}", one.migration_id, why));
  }
  return journal;
}

void WriteDecision(const RunDirectory& directory, Role role, const std::string& id,
                   const std::string& line) {
  const std::string path = directory.PathOf(id, role, "json");
  absl::StatusOr<FileDescriptor> fd = MakePrivateFile(AT_FDCWD, path, O_WRONLY);
  if (!fd.ok() || write(fd->get(), line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
    CommandError(absl::UnavailableError(
        fmt::format("'{}' cannot be written, so 'faultline status' will not know of this", path)));
  }
  (void)unlink(directory.PathOf(id, role, "command").c_str());
}

}  // namespace faultline
