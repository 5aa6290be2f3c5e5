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
  std::string run_directory;
  bool json = false;
};

// Writes the pages that are there into `dump_path`, and which are missing into `dump_path`.json.
// The VM stays as it is, and `receive --resume` can go on with it if the source comes back after
// all.
ExitStatus RunAbandon(const CommandParts& parts, const AbandonCommand& command);

}  // namespace faultline

#endif  // FAULTLINE_CLI_ABANDON_COMMAND_H_
