// Calling a monitor again whose connection was lost while its QEMU lives.
#ifndef FAULTLINE_VMM_QEMU_MONITOR_CALL_H_
#define FAULTLINE_VMM_QEMU_MONITOR_CALL_H_

#include <functional>
#include <memory>
#include <string>

#include "base/status.h"
#include "vmm/qemu/monitored_process.h"
#include "vmm/qemu/qmp_client.h"

namespace faultline {

struct MonitorCall {
  std::string path;
  const CancelEvent* cancel = nullptr;
  // Of the QEMU that is meant, if it was found before; may be null.
  const MonitoredProcess* process = nullptr;
  // How long QEMU may be silent; for its end, how long it may take.
  int64_t patience_ms = 10000;
  // Not empty: QEMU may wait for a page, and is waited for as long as it takes. This is told once
  // `patience_ms` are over.
  std::function<void(const std::string&)> on_delay;
};

// Runs `ask`, and again on a new connection when `client`'s was lost, or if it has none (is null).
// Unavailable means that QEMU has ended; one that lives and cannot be called, or hangs up each
// time, is FailedPrecondition. `ask` must be one that may be repeated.
absl::Status AskAgainIfLost(std::unique_ptr<QmpClient>* client, const MonitorCall& call,
                            const std::function<absl::Status()>& ask);

}  // namespace faultline

#endif  // FAULTLINE_VMM_QEMU_MONITOR_CALL_H_
