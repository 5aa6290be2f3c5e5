// A migration whose command has died, for what an operator decides about it.
#ifndef FAULTLINE_CLI_LONE_MIGRATION_H_
#define FAULTLINE_CLI_LONE_MIGRATION_H_

#include <memory>
#include <string>

#include "base/status.h"
#include "cli/command_parts.h"
#include "cli/run_directory.h"
#include "cli/session_record.h"
#include "seams/journal.h"

namespace faultline {

// FindUnfinished, whose refusal names the process that is in the way if one is. `verb` is what the
// operator wants, for that sentence: "reclaim".
absl::StatusOr<Unfinished> FindLone(const RunDirectory& directory, Role role, const std::string& id,
                                    const std::string& verb);

// Opens its journal, so that no command works on it until that is destroyed, and sees that it is
// unfinished still.
absl::StatusOr<std::unique_ptr<Journal>> LockLone(const CommandParts& parts, const Unfinished& one,
                                                  Role role);

// What `status` says of it from now on: `line`, a JSON object, in place of how its command ended.
// Nothing is left to take up. Failing is told on stderr and is no reason to fail.
void WriteDecision(const RunDirectory& directory, Role role, const std::string& id,
                   const std::string& line);

}  // namespace faultline

#endif  // FAULTLINE_CLI_LONE_MIGRATION_H_
