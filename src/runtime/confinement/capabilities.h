// Rights beyond those of a process's user (capabilities(7)). The kernel has them for each thread.
#ifndef FAULTLINE_RUNTIME_CONFINEMENT_CAPABILITIES_H_
#define FAULTLINE_RUNTIME_CONFINEMENT_CAPABILITIES_H_

#include <cstdint>
#include <initializer_list>

#include "base/status.h"

namespace faultline {

// CAP_* numbers (linux/capability.h) as bits.
constexpr uint64_t CapabilityBits(std::initializer_list<int> capabilities) {
  uint64_t bits = 0;
  for (int capability : capabilities) bits |= uint64_t{1} << capability;
  return bits;
}

// Gives up what is not in `kept`, for the calling thread and for the threads and programs that it
// starts from now on; what it does not have it does not get. There is no way back.
absl::Status KeepCapabilities(uint64_t kept);

// KeepCapabilities(0) for a thread that has nothing to do that needs one. Less cannot be refused.
void KeepNoCapabilities();

// No program that this thread starts, or a thread of its, gets rights from its file (set-user-id,
// file capabilities). There is no way back.
absl::Status ForbidNewPrivileges();

// This process leaves no core and lets only who may trace any process look into it: it maps a VM's
// memory and holds keys.
absl::Status KeepOthersOut();

}  // namespace faultline

#endif  // FAULTLINE_RUNTIME_CONFINEMENT_CAPABILITIES_H_
