#include "engine/install_error.h"

#include <fmt/format.h>

namespace faultline {

absl::Status InstallError(const InstallResult& result, const MemoryLayout& layout, PageRun run) {
  std::string where =
      fmt::format("page {} of RAM block '{}'", run.first + result.pages, layout[run.region].name);
  if (result.outcome == InstallOutcome::kGone) {
    return absl::AbortedError(
        fmt::format("install {}: the VM's process is gone or has unmapped its memory", where));
  }
  return ErrnoStatus(result.error_number, fmt::format("install {}", where));
}

}  // namespace faultline
