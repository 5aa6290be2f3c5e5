// A blocking client of QEMU's machine protocol (QMP) on a unix socket.
#ifndef FAULTLINE_VMM_QEMU_QMP_CLIENT_H_
#define FAULTLINE_VMM_QEMU_QMP_CLIENT_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "base/file_descriptor.h"
#include "base/status.h"
#include "vmm/qemu/cancel_event.h"
#include "vmm/qemu/json_fields.h"

namespace faultline {

struct QmpEvent {
  std::string name;
  Json data;
  int64_t read_at_ns = 0;  // on the executors' clock
};

// Thread safety: one thread at a time. Every wait ends with Cancelled when the cancel event is set;
// the client can still be used after that.
//
// Errors: FailedPrecondition (QEMU answered with an error, which the message carries),
// Unimplemented (QEMU does not know the command), Unavailable (the monitor's connection has ended),
// DeadlineExceeded, Cancelled, InvalidArgument (the peer does not speak QMP).
class QmpClient {
 public:
  static constexpr int64_t kGreetingTimeoutMs = 3000;
  static constexpr int64_t kReplyTimeoutMs = 10000;
  static constexpr int64_t kNoTimeout = -1;

  // Connects, reads the greeting and leaves the negotiation. A monitor serves one client: no
  // greeting (DeadlineExceeded) means that somebody else has it, or that QEMU is busy. `cancel` may
  // be null and outlives the client. NotFound: there is no such socket. Unavailable: nobody serves
  // it. ResourceExhausted: others wait there already.
  static absl::StatusOr<std::unique_ptr<QmpClient>> Connect(
      const std::string& path, const CancelEvent* cancel,
      int64_t greeting_timeout_ms = kGreetingTimeoutMs);
  // Goes on with a connection whose negotiation another process had done; it may have died while
  // it read or wrote a message.
  static absl::StatusOr<std::unique_ptr<QmpClient>> Inherit(FileDescriptor socket,
                                                            const std::string& path);

  // Runs one command and returns the "return" member of its answer.
  absl::StatusOr<Json> Execute(const std::string& command, const Json& arguments = Json::object(),
                               int64_t timeout_ms = kReplyTimeoutMs);
  // Gives QEMU a duplicate of `fd`, which it knows as `name` from then on.
  absl::Status SendDescriptor(const std::string& name, int fd);
  // Runs a command of the human monitor and returns what it prints.
  absl::StatusOr<std::string> HumanCommand(const std::string& line,
                                           int64_t timeout_ms = kReplyTimeoutMs);

  // Forgets the events that came until now.
  void DropEvents() { events_.clear(); }
  // The first event for which `wanted` is true; it and those before it are forgotten.
  absl::StatusOr<QmpEvent> WaitForEvent(const std::function<bool(const QmpEvent&)>& wanted,
                                        int64_t timeout_ms, const char* what);

  // The process at the socket's other end; 0 if it lives in another process namespace.
  absl::StatusOr<int> PeerPid() const;
  const std::string& path() const { return path_; }
  int fd() const { return socket_.get(); }

 private:
  QmpClient(FileDescriptor socket, std::string path, const CancelEvent* cancel);

  absl::Status Greet(int64_t timeout_ms);
  absl::Status Send(std::string_view text, int passed_fd, Deadline deadline);
  absl::StatusOr<Json> ExecuteWithDescriptor(const std::string& command, const Json& arguments,
                                             int passed_fd, int64_t timeout_ms);
  // The next line from QEMU, without its end.
  absl::StatusOr<std::string> ReadLine(Deadline deadline, const char* what);
  // The next message; events are kept and not returned.
  absl::StatusOr<Json> ReadReply(Deadline deadline, const char* what);
  // Reads one message; true if it was an event, which is then the last of `events_`.
  absl::StatusOr<bool> ReadMessage(Deadline deadline, const char* what, Json* reply);
  absl::Status Lost() const;

  const FileDescriptor socket_;
  const std::string path_;
  const CancelEvent* const cancel_;
  std::string received_;  // not yet a whole line
  size_t scanned_ = 0;    // bytes of received_ that hold no line end
  std::deque<QmpEvent> events_;
  // From the clock: no client of the same monitor before this one has used the same.
  uint64_t next_id_;
  bool may_start_inside_message_ = false;
};

}  // namespace faultline

#endif  // FAULTLINE_VMM_QEMU_QMP_CLIENT_H_
