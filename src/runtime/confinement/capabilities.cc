#include "runtime/confinement/capabilities.h"

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/sanitized.h"

namespace faultline {
namespace {

constexpr int kSetsBits = 32;
using Sets = std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3>;

__user_cap_header_struct OwnThread() { return {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0}; }

bool Has(const Sets& sets, int capability) {
  return (sets[capability / kSetsBits].effective >> capability % kSetsBits & 1) != 0;
}

// What a program that is executed may get at all.
absl::Status LowerBound(uint64_t kept) {
  for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; ++capability) {
    if ((kept >> capability & 1) != 0) continue;
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0) {
      return ErrnoStatus(errno, "lower the bound of this process's capabilities");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status KeepCapabilities(uint64_t kept) {
  __user_cap_header_struct header = OwnThread();
  Sets sets{};
  if (syscall(SYS_capget, &header, sets.data()) < 0) {
    return ErrnoStatus(errno, "read this process's capabilities");
  }
  // Who may not lower the bound has no rights that a program could get either, but by its file.
  if (Has(sets, CAP_SETPCAP)) RETURN_IF_ERROR(LowerBound(kept));
  for (size_t i = 0; i < sets.size(); ++i) {
    const auto bits = static_cast<uint32_t>(kept >> kSetsBits * i);
    sets[i].effective &= bits;
    sets[i].permitted &= bits;
    sets[i].inheritable &= bits;  // and with it what is ambient
  }
  if (syscall(SYS_capset, &header, sets.data()) < 0) {
    return ErrnoStatus(errno, "give up capabilities");
  }
  return absl::OkStatus();
}

void KeepNoCapabilities() { KeepCapabilities(0).IgnoreError(); }

absl::Status ForbidNewPrivileges() {
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0) return absl::OkStatus();
  return ErrnoStatus(errno, "forbid new privileges");
}

absl::Status KeepOthersOut() {
  if (kSanitized) return absl::OkStatus();  // the sanitizer would be one of them
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0) return absl::OkStatus();
  return ErrnoStatus(errno, "forbid core dumps and tracing");
}

}  // namespace faultline
