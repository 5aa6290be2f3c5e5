// What a VMM driver tells of its VM.
#ifndef FAULTLINE_SEAMS_VM_DESCRIPTION_H_
#define FAULTLINE_SEAMS_VM_DESCRIPTION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "pages/memory_layout.h"

namespace faultline {

// One RAM block and the file that holds it.
struct RamRegion {
  RegionLayout layout;
  // Open for reading (source) or reading and writing (destination); owned by the VMM driver, which
  // outlives whoever uses it. -1: RAM that has no file (C ABI with an own userfaultfd only).
  int file = -1;
  uint64_t file_offset_bytes = 0;
  // Where the region is mapped in the VM's process; 0 if the driver does not know.
  uint64_t host_address = 0;
};

struct VmDescription {
  std::vector<RamRegion> regions;
  // Its CPUs run, or ran until Freeze (false: paused by its operator). A driver that cannot tell
  // before Freeze says true.
  bool running = false;
  bool guest_may_discard = false;  // a balloon, free-page reporting or virtio-mem is present
  // Source: the kernel writes the VM's memory behind its own mapping (disks that bypass the page
  // cache): dirty tracking is right only around a stopped VM.
  bool direct_io = false;
  // Source: why no dirty tracking of this VM sees every write, as a sentence; empty if it can.
  std::string untrackable;
  std::string vmm_version;  // for people: "QEMU 7.2.22"
  // From Freeze: when the CPUs stopped, on the executors' clock; 0 if the driver cannot tell.
  int64_t stopped_at_ns = 0;

  MemoryLayout layout() const {
    MemoryLayout layout;
    for (const RamRegion& region : regions) layout.push_back(region.layout);
    return layout;
  }
};

}  // namespace faultline

#endif  // FAULTLINE_SEAMS_VM_DESCRIPTION_H_
