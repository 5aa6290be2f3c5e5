// Starting other programs.
#ifndef FAULTLINE_CLI_SUBPROCESS_H_
#define FAULTLINE_CLI_SUBPROCESS_H_

#include <string>
#include <vector>

#include "base/file_descriptor.h"
#include "base/status.h"

namespace faultline {

struct CapturedOutput {
  int exit_status = 0;  // 128 + the signal's number if one ended it
  std::string text;     // stdout and stderr, at most 1 MiB
};

// Runs a program (found in PATH) with stdin from /dev/null, and waits for its end. Errors: it
// cannot be started, or took longer than `timeout_ms` (it is killed then).
absl::StatusOr<CapturedOutput> RunAndCapture(const std::vector<std::string>& command,
                                             int timeout_ms);

// Starts a program in a session of its own, so that it lives on when this process or its terminal
// goes: stdin is /dev/null, stdout and stderr go to `output`, signals are as a fresh shell has
// them. `environment` ("NAME=VALUE") is added to this process's own and replaces the same names.
// Returns the pid.
absl::StatusOr<int> StartDetached(const std::vector<std::string>& command,
                                  const std::vector<std::string>& environment,
                                  const FileDescriptor& output);

}  // namespace faultline

#endif  // FAULTLINE_CLI_SUBPROCESS_H_
