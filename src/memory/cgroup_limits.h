// The memory limits that the cgroups of a process put on it.
#ifndef FAULTLINE_MEMORY_CGROUP_LIMITS_H_
#define FAULTLINE_MEMORY_CGROUP_LIMITS_H_

#include <string>
#include <vector>

#include "base/status.h"
#include "memory/room_check.h"

namespace faultline {

// Where a cgroup hierarchy that counts memory is mounted, and how its files are called.
struct CgroupPlace {
  std::string mount;  // "/sys/fs/cgroup"
  std::string path;   // of the process, below the mount: "/machine.slice/vm.scope"
  bool version2 = false;
};

// Finds them in the texts of /proc/self/mountinfo and /proc/PID/cgroup. Pure.
std::vector<CgroupPlace> ParseCgroupPlaces(const std::string& mountinfo, const std::string& cgroup);

// The limits at `place` and at each group above it; groups without a limit are left out.
std::vector<RoomFacts::Cgroup> ReadCgroupLimits(const CgroupPlace& place);

// Both for one process. An error only if /proc cannot be read.
absl::StatusOr<std::vector<RoomFacts::Cgroup>> ReadMemoryLimitsOf(int process_id);

}  // namespace faultline

#endif  // FAULTLINE_MEMORY_CGROUP_LIMITS_H_
