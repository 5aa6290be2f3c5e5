// `faultline reclaim`: takes a VM back on the source whose destination is lost after the handover.
#ifndef FAULTLINE_CLI_RECLAIM_COMMAND_H_
#define FAULTLINE_CLI_RECLAIM_COMMAND_H_

#include <string>

#include "cli/command_parts.h"
#include "cli/exit_status.h"

namespace faultline {

// As given on the command line.
struct ReclaimCommand {
  std::string id;  // the first digits; empty: the only one
  std::string qmp;
  std::string run_directory;
  bool destination_is_dead = false;
  bool json = false;
};

// Without `destination_is_dead` it says what would happen, and does nothing (kUsage).
// kPastHandover: it failed, and the VM is the destination's as before; kFailed: it failed, but
// nobody serves the destination any more.
ExitStatus RunReclaim(const CommandParts& parts, const ReclaimCommand& command);

}  // namespace faultline

#endif  // FAULTLINE_CLI_RECLAIM_COMMAND_H_
