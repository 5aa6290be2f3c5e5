// `faultline cancel` and `faultline postcopy-now`: ask a running migration to stop before the
// handover, or to send nothing more before it.
#ifndef FAULTLINE_CLI_CANCEL_COMMAND_H_
#define FAULTLINE_CLI_CANCEL_COMMAND_H_

#include <string>

#include "cli/exit_status.h"

namespace faultline {

// `id` may be the beginning of an id, if it is the only one that begins so. Asks both sides if both
// run on this host.
ExitStatus RunCancel(const std::string& run_directory, const std::string& id);
// The same; asks the source only.
ExitStatus RunPostCopyNow(const std::string& run_directory, const std::string& id);

}  // namespace faultline

#endif  // FAULTLINE_CLI_CANCEL_COMMAND_H_
