// Is there room on this host for the whole VM? After the handover its memory cannot go back.
#ifndef FAULTLINE_MEMORY_ROOM_CHECK_H_
#define FAULTLINE_MEMORY_ROOM_CHECK_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "seams/vm_description.h"

namespace faultline {

// What this host has for the VM, and what the VM needs of it. All figures in bytes.
struct RoomFacts {
  // tmpfs mounts that hold RAM files and have a size.
  struct Tmpfs {
    std::string mount;  // "/dev/shm", or "?" for one that is mounted nowhere
    uint64_t needed_bytes = 0;
    uint64_t free_bytes = 0;
  };
  struct HugePages {
    uint64_t page_size_bytes = 0;
    uint64_t needed_bytes = 0;      // beyond what the VM's process has reserved for itself
    uint64_t free_bytes = 0;        // in the pool, reserved by nobody
    uint64_t overcommit_bytes = 0;  // what the kernel may add to the pool by itself
  };
  // A memory cgroup of the VM's process, or one above it, that has a limit.
  struct Cgroup {
    std::string limit_file;  // "/sys/fs/cgroup/machine.slice/memory.max"
    uint64_t limit_bytes = 0;
    uint64_t used_bytes = 0;  // without page cache that can be dropped
  };
  uint64_t memory_needed_bytes = 0;  // in small pages
  uint64_t memory_available_bytes = 0;
  uint64_t swap_free_bytes = 0;
  std::vector<Tmpfs> tmpfs;
  std::vector<HugePages> huge_pages;
  std::vector<Cgroup> cgroups;
};

// ResourceExhausted: the sentence with both figures and the mend, for the first thing that is too
// small. Pure.
absl::Status CheckRoom(const RoomFacts& facts);

// Gathers the facts. The regions' files must be empty, so that all of them is still needed. The
// VM's process matters for cgroups and for reserved huge pages (0: unknown, both left out).
// Milliseconds.
absl::StatusOr<RoomFacts> ReadRoomFacts(std::span<const RamRegion> regions, int vm_process_id);

}  // namespace faultline

#endif  // FAULTLINE_MEMORY_ROOM_CHECK_H_
