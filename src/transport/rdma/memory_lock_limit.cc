#include "transport/rdma/memory_lock_limit.h"

#include <fmt/format.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace faultline {
namespace {

constexpr uint64_t kMiB = 1024 * 1024;

uint64_t Limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return UINT64_MAX;
  return limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur;
}

// This thread's capabilities of the first 32, among which CAP_IPC_LOCK is.
constexpr uint32_t kPinAnything = uint32_t{1} << CAP_IPC_LOCK;

struct Capabilities {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};

  bool Read() { return syscall(SYS_capget, &header, data) == 0; }
  void Write() { syscall(SYS_capset, &header, data); }
};

bool MayPinAnything() {
  Capabilities own;
  return own.Read() && (own.data[0].effective & kPinAnything) != 0;
}

// A program may have been given it as permitted only (setcap cap_ipc_lock+p).
void UseRightToPin() {
  Capabilities own;
  if (!own.Read() || (own.data[0].permitted & kPinAnything) == 0) return;
  // New credentials would shut this thread out of the devices that it has open.
  if ((own.data[0].effective & kPinAnything) != 0) return;
  own.data[0].effective |= kPinAnything;
  own.Write();
}

std::string Sentence(uint64_t bytes, std::string_view what) {
  return fmt::format(
      "RDMA pins {}, {} MiB, and this process may pin {} MiB (RLIMIT_MEMLOCK): raise it, by "
      "`ulimit -l unlimited`, by LimitMEMLOCK=infinity in its systemd unit, or in "
      "/etc/security/limits.conf, or give the program CAP_IPC_LOCK",
      what, (bytes + kMiB - 1) / kMiB, Limit() / kMiB);
}

}  // namespace

void RaiseMemoryLockLimit() {
  UseRightToPin();
  rlimit limit{RLIM_INFINITY, RLIM_INFINITY};
  if (setrlimit(RLIMIT_MEMLOCK, &limit) == 0 || getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_MEMLOCK, &limit);
}

absl::Status CheckMemoryLockLimit(uint64_t bytes, std::string_view what) {
  if (bytes <= Limit() || MayPinAnything()) return absl::OkStatus();
  return absl::FailedPreconditionError(Sentence(bytes, what));
}

absl::Status RegistrationError(int error_number, uint64_t bytes, std::string_view what) {
  // In a user namespace the right may be there and count for nothing.
  if (error_number == ENOMEM && Limit() != UINT64_MAX) {
    return absl::FailedPreconditionError(Sentence(bytes, what));
  }
  return ErrnoStatus(error_number, fmt::format("register {} bytes of {} for RDMA", bytes, what));
}

}  // namespace faultline
