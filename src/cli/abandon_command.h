// `faultline abandon`: what is left of a VM on the destination whose source is lost for good.
#ifndef FAULTLINE_CLI_ABANDON_COMMAND_H_
#define FAULTLINE_CLI_ABANDON_COMMAND_H_

#include <string>

#include "cli/command_parts.h"
#include "cli/exit_status.h"

namespace faultline {

// As given on the command line.
struct AbandonCommand {
  std::string id;  // the first digits; empty: the only one
  std::string dump_path;
  std::string hook;
  bool poison = false;
  bool source_is_dead = false;
  std::string run_directory;
  bool json = false;
};

// With `dump_path`: writes the pages that are there into it, and which are missing into
// `dump_path`.json. The VM stays as it is, and `receive --resume` can go on with it if the source
// comes back after all. With `poison`: every missing page becomes an error for whoever touches it,
// for good, and the VM runs; without `source_is_dead` it says what that means (kUsage). kFailed:
// the VM stands still as before.
ExitStatus RunAbandon(const CommandParts& parts, const AbandonCommand& command);

}  // namespace faultline

#endif  // FAULTLINE_CLI_ABANDON_COMMAND_H_
