// `faultline status` and what `cancel` shares with it: who is running here.
#ifndef FAULTLINE_CLI_STATUS_COMMAND_H_
#define FAULTLINE_CLI_STATUS_COMMAND_H_

#include <string>
#include <vector>

#include "cli/exit_status.h"
#include "cli/report_json.h"
#include "cli/run_directory.h"
#include "cli/session_record.h"
#include "runtime/journal/durable_copies.h"

namespace faultline {

struct RunningSession {
  SessionFile file;
  OutputJson state;  // what its status socket answered
};

// All sessions whose sockets answer. A socket that nobody serves any more is removed.
absl::StatusOr<std::vector<RunningSession>> FindRunning(const RunDirectory& directory);

// Their lines for people, from what a status socket answered and from what a command left that has
// ended or was killed. Control characters in them are replaced. Pure.
std::string RunningRow(const OutputJson& state);
std::string UnfinishedRow(const Unfinished& one, Role role);
std::string EndedRow(const OutputJson& outcome);
std::string LostRow(const DurableCopy& copy);

// Whether `id` (lower or upper case digits) begins `migration_id`.
bool IdMatches(const std::string& id, const std::string& migration_id);

// An id or the beginning of one: InvalidArgument for anything else.
absl::Status CheckId(const std::string& id);

// `id` may be empty: all of them. `state_directory`: where durable copies of journals are.
ExitStatus RunStatus(const std::string& run_directory, const std::string& state_directory,
                     const std::string& id, bool json);

}  // namespace faultline

#endif  // FAULTLINE_CLI_STATUS_COMMAND_H_
