// What a guardian and its parent have agreed upon. Both are always of the same build.
#ifndef FAULTLINE_VMM_QEMU_GUARDIAN_WIRE_H_
#define FAULTLINE_VMM_QEMU_GUARDIAN_WIRE_H_

namespace faultline {

// Descriptors: lifeline, monitor, on the destination QEMU's pidfd, then the RAM files.
inline constexpr int kGuardianFirstFd = 3;
inline constexpr int kGuardianLifelineFd = kGuardianFirstFd;
inline constexpr int kGuardianMonitorFd = kGuardianFirstFd + 1;
inline constexpr int kGuardianProcessFd = kGuardianFirstFd + 2;

inline constexpr const char* kGuardianSourceWord = "source";
inline constexpr const char* kGuardianDestinationWord = "destination";

// The first byte of each packet on the lifeline.
inline constexpr char kGuardianReady = 'R';      // guardian to parent
inline constexpr char kGuardianPlan = 'P';       // parent to guardian; the plan follows
inline constexpr char kGuardianStandDown = 'S';  // parent to guardian

}  // namespace faultline

#endif  // FAULTLINE_VMM_QEMU_GUARDIAN_WIRE_H_
