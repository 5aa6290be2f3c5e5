#include "memory/room_check.h"

#include <fmt/format.h>

#include "base/text.h"

namespace faultline {
namespace {

absl::Status NoRoom(std::string text) { return absl::ResourceExhaustedError(std::move(text)); }

}  // namespace

absl::Status CheckRoom(const RoomFacts& facts) {
  for (const RoomFacts::Tmpfs& tmpfs : facts.tmpfs) {
    if (tmpfs.needed_bytes <= tmpfs.free_bytes) continue;
    return NoRoom(fmt::format(
        "no room for the VM's memory: it needs {} on the tmpfs {}, which has {} free; free some of "
        "it or enlarge it (mount -o remount,size=... {})",
        FormatBytes(tmpfs.needed_bytes), tmpfs.mount, FormatBytes(tmpfs.free_bytes), tmpfs.mount));
  }
  for (const RoomFacts::HugePages& huge : facts.huge_pages) {
    if (huge.needed_bytes <= huge.free_bytes + huge.overcommit_bytes) continue;
    uint64_t kib = huge.page_size_bytes / 1024;
    return NoRoom(fmt::format(
        "no room for the VM's memory: it needs {} huge pages of {} KiB, of which {} are free; add "
        "to /sys/kernel/mm/hugepages/hugepages-{}kB/nr_hugepages",
        huge.needed_bytes / huge.page_size_bytes, kib,
        (huge.free_bytes + huge.overcommit_bytes) / huge.page_size_bytes, kib));
  }
  for (const RoomFacts::Cgroup& cgroup : facts.cgroups) {
    uint64_t left_bytes =
        cgroup.limit_bytes > cgroup.used_bytes ? cgroup.limit_bytes - cgroup.used_bytes : 0;
    if (facts.memory_needed_bytes <= left_bytes) continue;
    return NoRoom(fmt::format(
        "no room for the VM's memory: it needs {}, but the memory limit of the destination's "
        "cgroup leaves {} ({} of {} in use); raise {}",
        FormatBytes(facts.memory_needed_bytes), FormatBytes(left_bytes),
        FormatBytes(cgroup.used_bytes), FormatBytes(cgroup.limit_bytes), cgroup.limit_file));
  }
  uint64_t host_bytes = facts.memory_available_bytes + facts.swap_free_bytes;
  if (facts.memory_needed_bytes > host_bytes) {
    return NoRoom(fmt::format(
        "no room for the VM's memory: it needs {}, and this host has {} available and {} of free "
        "swap; stop something or choose another host",
        FormatBytes(facts.memory_needed_bytes), FormatBytes(facts.memory_available_bytes),
        FormatBytes(facts.swap_free_bytes)));
  }
  return absl::OkStatus();
}

}  // namespace faultline
