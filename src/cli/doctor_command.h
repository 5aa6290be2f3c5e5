// `faultline doctor`: what this host, or one VM, can do.
#ifndef FAULTLINE_CLI_DOCTOR_COMMAND_H_
#define FAULTLINE_CLI_DOCTOR_COMMAND_H_

#include <string>

#include "cli/command_parts.h"
#include "cli/exit_status.h"

namespace faultline {

// As given on the command line.
struct DoctorCommand {
  std::string vm;  // a monitor socket; empty: the host alone
  std::string qemu;
  std::string hook_library;
  std::string tls_directory;  // empty: where migrations look
  bool json = false;
};

// kDone if post-copy is possible, else kFailed.
ExitStatus RunDoctor(const CommandParts& parts, const DoctorCommand& command);

}  // namespace faultline

#endif  // FAULTLINE_CLI_DOCTOR_COMMAND_H_
