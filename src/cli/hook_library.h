// Where faultline-qemu.so is.
#ifndef FAULTLINE_CLI_HOOK_LIBRARY_H_
#define FAULTLINE_CLI_HOOK_LIBRARY_H_

#include <string>

#include "base/status.h"

namespace faultline {

// The absolute path of `chosen` (--hook-library, FAULTLINE_HOOK_LIBRARY) if it is not empty, else
// of faultline-qemu.so beside this executable or in ../lib/faultline. NotFound names what was
// tried.
absl::StatusOr<std::string> FindHookLibrary(const std::string& chosen);

}  // namespace faultline

#endif  // FAULTLINE_CLI_HOOK_LIBRARY_H_
