#include "vmm/qemu/vm_lock.h"

#include <sys/file.h>

#include <cerrno>

namespace faultline {
namespace {

constexpr int64_t kPatienceMs = 3000;
constexpr int64_t kPauseMs = 10;

}  // namespace

absl::Status LockVm(std::span<const FileDescriptor> ram_files, const CancelEvent* cancel) {
  if (ram_files.empty()) return absl::OkStatus();
  const Deadline deadline = Deadline::After(kPatienceMs);
  while (flock(ram_files.front().get(), LOCK_EX | LOCK_NB) < 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) return ErrnoStatus(errno, "lock the VM's RAM file");
    if (deadline.expired()) {
      return absl::FailedPreconditionError(
          "another faultline process is moving this VM (its RAM file is locked): 'faultline "
          "status' shows the migrations of this host; wait for that one to end, or cancel it");
    }
    const absl::Status waited =
        WaitForDescriptor(-1, 0, cancel, Deadline::After(kPauseMs), "the VM's lock");
    if (absl::IsCancelled(waited)) return waited;
  }
  return absl::OkStatus();
}

}  // namespace faultline
