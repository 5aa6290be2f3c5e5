// The `faultline` command: its options, and which subcommand runs.
#ifndef FAULTLINE_CLI_COMMAND_LINE_H_
#define FAULTLINE_CLI_COMMAND_LINE_H_

#include <string>
#include <vector>

#include "cli/command_parts.h"

namespace faultline {

// Runs the command and returns the process's exit status (exit_status.h). `arguments` without the
// program's name. Call it before there are other threads; it ignores SIGPIPE from here on.
int RunCommandLine(const CommandParts& parts, const std::vector<std::string>& arguments);

}  // namespace faultline

#endif  // FAULTLINE_CLI_COMMAND_LINE_H_
