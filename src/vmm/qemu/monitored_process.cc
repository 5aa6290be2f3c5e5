#include "vmm/qemu/monitored_process.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace faultline {

absl::StatusOr<MonitoredProcess> MonitoredProcess::Find(QmpClient* qmp, int64_t timeout_ms) {
  MonitoredProcess found;
  ASSIGN_OR_RETURN(found.id_, qmp->PeerPid());
  if (found.id_ <= 0) return MonitoredProcess();
  found.process_ = FileDescriptor(static_cast<int>(syscall(SYS_pidfd_open, found.id_, 0)));
  if (!found.process_.valid()) {
    return ErrnoStatus(errno, fmt::format("open the QEMU behind the monitor '{}' (process {})",
                                          qmp->path(), found.id_));
  }
  // An answer proves that QEMU lives, so that the number was still its own when it was opened.
  RETURN_IF_ERROR(qmp->Execute("query-status", Json::object(), timeout_ms).status());
  return found;
}

bool MonitoredProcess::ended() const {
  if (!known()) return false;
  pollfd end{process_.get(), POLLIN, 0};
  return poll(&end, 1, 0) > 0;
}

}  // namespace faultline
