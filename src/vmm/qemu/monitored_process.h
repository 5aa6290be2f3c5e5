// The process that serves a monitor.
#ifndef FAULTLINE_VMM_QEMU_MONITORED_PROCESS_H_
#define FAULTLINE_VMM_QEMU_MONITORED_PROCESS_H_

#include "base/file_descriptor.h"
#include "base/status.h"
#include "vmm/qemu/qmp_client.h"

namespace faultline {

// Tells a QEMU that has ended from one that only hung up. One thread.
class MonitoredProcess {
 public:
  // Nothing is known of it.
  MonitoredProcess() = default;
  // The process at the other end of `qmp`; unknown if it lives in another process namespace. Asks
  // QEMU something, so that an ended one is not mistaken for whoever got its number.
  static absl::StatusOr<MonitoredProcess> Find(QmpClient* qmp,
                                               int64_t timeout_ms = QmpClient::kReplyTimeoutMs);

  bool known() const { return process_.valid(); }
  // False also if it is not known.
  bool ended() const;
  // Its pidfd; -1 if it is not known.
  int pidfd() const { return process_.get(); }
  int id() const { return id_; }

 private:
  FileDescriptor process_;
  int id_ = 0;
};

}  // namespace faultline

#endif  // FAULTLINE_VMM_QEMU_MONITORED_PROCESS_H_
