// What the kernel says of a mapping: the letters of VmFlags in /proc/PID/smaps.
#ifndef FAULTLINE_TESTS_MEMORY_VM_FLAGS_H_
#define FAULTLINE_TESTS_MEMORY_VM_FLAGS_H_

#include <fmt/format.h>
#include <sys/types.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <string>

namespace faultline {

// Whether the mapping of process `pid` that begins at `address` has `flag` ("uw": registered with a
// userfaultfd for write protection).
inline bool HasVmFlag(pid_t pid, uint64_t address, const std::string& flag) {
  std::ifstream smaps(fmt::format("/proc/{}/smaps", pid));
  const std::string start = fmt::format("{:x}-", address);
  bool inside = false;
  for (std::string line; std::getline(smaps, line);) {
    if (line.starts_with(start)) inside = true;
    if (inside && line.starts_with("VmFlags:")) {
      return (line + " ").find(" " + flag + " ") != std::string::npos;
    }
  }
  return false;
}

}  // namespace faultline

#endif  // FAULTLINE_TESTS_MEMORY_VM_FLAGS_H_
