#include "cli/hook_library.h"

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <system_error>

namespace faultline {

absl::StatusOr<std::string> FindHookLibrary(const std::string& chosen) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (!chosen.empty()) {
    fs::path path = fs::canonical(chosen, error);
    if (!error && access(path.c_str(), R_OK) == 0) return path.string();
    return absl::NotFoundError(
        fmt::format("the hook library '{}' cannot be read: give the path of faultline-qemu.so with "
                    "--hook-library or FAULTLINE_HOOK_LIBRARY",
                    chosen));
  }
  fs::path directory = fs::read_symlink("/proc/self/exe", error).parent_path();
  for (const char* place : {"faultline-qemu.so", "../lib/faultline/faultline-qemu.so"}) {
    fs::path path = fs::canonical(directory / place, error);
    if (!error && access(path.c_str(), R_OK) == 0) return path.string();
  }
  return absl::NotFoundError(fmt::format(
      "faultline-qemu.so is neither in '{0}' nor in '{0}/../lib/faultline': give its path with "
      "--hook-library or FAULTLINE_HOOK_LIBRARY",
      directory.string()));
}

}  // namespace faultline
