// Reading the texts that QEMU and the kernel print for people. Pure.
#ifndef FAULTLINE_VMM_QEMU_QEMU_TEXT_H_
#define FAULTLINE_VMM_QEMU_QEMU_TEXT_H_

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "vmm/qemu/vm_facts.h"

namespace faultline {

// `info ramblock` of QEMU 7.2 (five columns) and later (with host address). Blocks without a name
// are not attached to the VM, never migrate, and are left out.
absl::StatusOr<std::vector<RamBlock>> ParseRamBlocks(std::string_view text);

// /proc/PID/maps. Lines that are not understood are left out.
std::vector<ProcessMapping> ParseProcessMaps(std::string_view text);

// VmLck of /proc/PID/status in bytes; 0 if absent.
uint64_t ParseLockedBytes(std::string_view text);

// The super block options of the mount of `device` (makedev) in /proc/PID/mountinfo; empty if there
// is none.
std::string ParseMountOptions(std::string_view text, uint64_t device);

}  // namespace faultline

#endif  // FAULTLINE_VMM_QEMU_QEMU_TEXT_H_
