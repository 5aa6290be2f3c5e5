#include "vmm/qemu/monitor_call.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

namespace faultline {
namespace {

constexpr int kCallsMax = 3;
constexpr int64_t kPauseMs = 20;

bool NobodyIsThere(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsNotFound(status);
}

absl::Status CannotBeCalled(const absl::Status& why) {
  return absl::FailedPreconditionError(
      fmt::format("QEMU lives, but cannot be called at its monitor: {}", MessageOf(why)));
}

// Nobody serves its monitor: `lost` if that is because it has ended.
absl::Status SeeThatItEnded(const MonitorCall& call, const absl::Status& lost) {
  if (call.process == nullptr || !call.process->known()) return lost;
  absl::Status ended = WaitForDescriptor(call.process->pidfd(), POLLIN, call.cancel,
                                         Deadline::After(call.patience_ms), "QEMU to end");
  if (!absl::IsDeadlineExceeded(ended)) return ended.ok() ? lost : ended;
  return CannotBeCalled(absl::UnavailableError(
      fmt::format("nobody serves '{}' any more, but its process {} lives (was the socket's file "
                  "removed?)",
                  call.path, call.process->id())));
}

// Where others wait already they may be calls that were given up: QEMU takes each of them to see.
absl::StatusOr<std::unique_ptr<QmpClient>> ConnectInTurn(const MonitorCall& call) {
  const Deadline deadline = Deadline::After(call.patience_ms);
  while (true) {
    auto qmp = QmpClient::Connect(call.path, call.cancel, call.patience_ms);
    if (!absl::IsResourceExhausted(qmp.status()) || deadline.expired()) return qmp;
    absl::Status pause = WaitForDescriptor(-1, POLLIN, call.cancel, Deadline::After(kPauseMs),
                                           "the monitor to be free");
    if (absl::IsCancelled(pause)) return pause;
  }
}

absl::StatusOr<std::unique_ptr<QmpClient>> CallMonitor(const MonitorCall& call) {
  auto qmp = ConnectInTurn(call);
  if (!call.on_delay || !absl::IsDeadlineExceeded(qmp.status())) return qmp;
  call.on_delay(fmt::format(
      "the destination's QEMU does not answer at its monitor '{}': it waits for a page of its "
      "memory, or another client has that monitor; waiting for it",
      call.path));
  return QmpClient::Connect(call.path, call.cancel, QmpClient::kNoTimeout);
}

}  // namespace

absl::Status AskAgainIfLost(std::unique_ptr<QmpClient>* client, const MonitorCall& call,
                            const std::function<absl::Status()>& ask) {
  absl::Status status =
      *client != nullptr
          ? ask()
          : absl::UnavailableError(fmt::format("nobody serves the monitor '{}'", call.path));
  for (int calls = 0; absl::IsUnavailable(status) && calls < kCallsMax; ++calls) {
    if (call.process != nullptr && call.process->ended()) return status;
    absl::StatusOr<std::unique_ptr<QmpClient>> again = CallMonitor(call);
    if (again.ok()) {
      *client = std::move(*again);
      status = ask();
      continue;
    }
    if (absl::IsCancelled(again.status())) return again.status();
    // A socket that takes connections, or that others may connect to, has a QEMU behind it.
    const absl::Status socket = ConnectUnix(call.path, SOCK_STREAM | SOCK_NONBLOCK).status();
    if (NobodyIsThere(socket)) return SeeThatItEnded(call, status);
    if (!NobodyIsThere(again.status())) return CannotBeCalled(again.status());
  }
  return absl::IsUnavailable(status) ? CannotBeCalled(status) : status;
}

}  // namespace faultline
