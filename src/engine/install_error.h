// The sentence for an installation that cannot go on.
#ifndef FAULTLINE_ENGINE_INSTALL_ERROR_H_
#define FAULTLINE_ENGINE_INSTALL_ERROR_H_

#include "base/status.h"
#include "seams/guest_memory.h"

namespace faultline {

// `result` is kGone or kFailed, met while installing `run`.
absl::Status InstallError(const InstallResult& result, const MemoryLayout& layout, PageRun run);

}  // namespace faultline

#endif  // FAULTLINE_ENGINE_INSTALL_ERROR_H_
