// What is wrong with a command line, said the same way everywhere.
#ifndef FAULTLINE_CLI_USAGE_H_
#define FAULTLINE_CLI_USAGE_H_

#include <string>

#include "assembly/sessions.h"
#include "base/status.h"
#include "cli/exit_status.h"

namespace faultline {

// One sentence and where to find help, on stderr. `subcommand` may be empty.
ExitStatus UsageError(const absl::Status& status, const std::string& subcommand);

// One sentence on stderr, for a command that is no migration.
ExitStatus CommandError(const absl::Status& status);

// Writes a command's whole output to stdout: kFailed, with a sentence, if that is not possible.
ExitStatus WriteOut(const std::string& text, ExitStatus exit_status);

// "tcp://HOST:PORT" as far as the command line can tell; other schemes get a sentence of their own.
absl::Status CheckUri(const std::string& uri, const std::string& option);

// The value of --recovery-timeout in microseconds; 0: no limit ("none").
absl::StatusOr<int64_t> ParseRecoveryTimeout(const std::string& text);

// The value of --integrity. Left out: the default, or what the migration that is taken up again
// (null: none is) had agreed on.
absl::StatusOr<IntegrityWish> ParseIntegrity(const std::string& text, const KeptMigration* kept);

}  // namespace faultline

#endif  // FAULTLINE_CLI_USAGE_H_
