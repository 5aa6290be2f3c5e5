// What a command says that does nothing without an explicit word of its user.
#ifndef FAULTLINE_CLI_CONFIRMATION_H_
#define FAULTLINE_CLI_CONFIRMATION_H_

#include <string>
#include <vector>

#include "cli/exit_status.h"
#include "cli/report_json.h"

namespace faultline {

struct Confirmation {
  std::string summary;                    // a sentence without its full stop
  std::vector<std::string> consequences;  // each what goes on after "That means:"
  std::string mend;                       // what to do first, with the command that then does it
};

// Explains on stderr, and with `json` on stdout in one object too, which begins with `fields`.
// Returns kUsage: nothing was done.
ExitStatus AskForConfirmation(const Confirmation& confirmation, OutputJson fields, bool json);

}  // namespace faultline

#endif  // FAULTLINE_CLI_CONFIRMATION_H_
