#include "vmm/qemu/qmp_client.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/json_text.h"
#include "base/monotonic_time.h"

namespace faultline {
namespace {

constexpr size_t kMessageBytesMax = 64 << 20;
constexpr size_t kEventsKeptMax = 1000;

Deadline DeadlineFor(int64_t timeout_ms) {
  return timeout_ms < 0 ? Deadline::Never() : Deadline::After(timeout_ms);
}

absl::Status ReplyError(const std::string& command, const Json& error) {
  std::string text = fmt::format("QEMU refused '{}': {}", command, JsonText(error, "desc"));
  if (JsonText(error, "class") == "CommandNotFound") return absl::UnimplementedError(text);
  return absl::FailedPreconditionError(text);
}

absl::Status NotQmp(const std::string& path, const std::string& said) {
  return absl::InvalidArgumentError(
      fmt::format("'{}' is no QMP monitor (it said '{}'): give the socket of a monitor made with "
                  "-qmp unix:PATH,server=on,wait=off",
                  path, said.substr(0, 60)));
}

// QEMU sends what it still owed a client that hung up to the next one, ahead of its greeting.
bool WasForTheClientBefore(const Json& message) {
  return message.is_object() &&
         (message.contains("return") || message.contains("error") || message.contains("event"));
}

}  // namespace

QmpClient::QmpClient(FileDescriptor socket, std::string path, const CancelEvent* cancel)
    : socket_(std::move(socket)),
      path_(std::move(path)),
      cancel_(cancel),
      next_id_(static_cast<uint64_t>(MonotonicNs())) {}

absl::StatusOr<std::unique_ptr<QmpClient>> QmpClient::Connect(const std::string& path,
                                                              const CancelEvent* cancel,
                                                              int64_t greeting_timeout_ms) {
  absl::StatusOr<FileDescriptor> socket = ConnectUnix(path, SOCK_STREAM | SOCK_NONBLOCK);
  if (!socket.ok()) {
    return absl::Status(socket.status().code(),
                        fmt::format("{}; is QEMU running with -qmp unix:{},server=on,wait=off?",
                                    MessageOf(socket.status()), path));
  }
  std::unique_ptr<QmpClient> client(new QmpClient(std::move(*socket), path, cancel));
  RETURN_IF_ERROR(client->Greet(greeting_timeout_ms));
  const int64_t reply_timeout_ms = greeting_timeout_ms < 0 ? kNoTimeout : kReplyTimeoutMs;
  RETURN_IF_ERROR(client->Execute("qmp_capabilities", Json::object(), reply_timeout_ms).status());
  return client;
}

absl::StatusOr<std::unique_ptr<QmpClient>> QmpClient::Inherit(FileDescriptor socket,
                                                              const std::string& path) {
  RETURN_IF_ERROR(SetNonBlocking(socket.get(), true));
  std::unique_ptr<QmpClient> client(new QmpClient(std::move(socket), path, nullptr));
  client->may_start_inside_message_ = true;
  // QEMU drops what it has of an unfinished command when it sees this byte.
  RETURN_IF_ERROR(client->Send("\xff", -1, Deadline::After(kReplyTimeoutMs)));
  return client;
}

absl::Status QmpClient::Greet(int64_t timeout_ms) {
  const Deadline deadline = DeadlineFor(timeout_ms);
  while (true) {
    absl::StatusOr<std::string> line = ReadLine(deadline, "QEMU's greeting");
    if (absl::IsDeadlineExceeded(line.status())) {
      if (!received_.empty()) return NotQmp(path_, received_);
      return absl::DeadlineExceededError(fmt::format(
          "the monitor at '{}' is held by another client (QEMU serves one at a time): give this "
          "command a second monitor: -qmp unix:PATH,server=on,wait=off",
          path_));
    }
    RETURN_IF_ERROR(line.status());
    Json message = ParseJson<Json>(*line);
    if (JsonMember(message, "QMP").is_object()) return absl::OkStatus();
    if (!WasForTheClientBefore(message)) return NotQmp(path_, *line);
  }
}

absl::Status QmpClient::Lost() const {
  return absl::UnavailableError(
      fmt::format("QEMU closed its monitor at '{}' (it has ended, or is ending)", path_));
}

absl::Status QmpClient::Send(std::string_view text, int passed_fd, Deadline deadline) {
  size_t sent = 0;
  while (sent < text.size()) {
    iovec part{const_cast<char*>(text.data() + sent), text.size() - sent};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    if (passed_fd >= 0 && sent == 0) {
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      cmsghdr* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(sizeof(int));
      memcpy(CMSG_DATA(header), &passed_fd, sizeof(int));
    }
    ssize_t written = sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
    if (written >= 0) {
      sent += static_cast<size_t>(written);
    } else if (errno == EAGAIN) {
      RETURN_IF_ERROR(WaitForDescriptor(socket_.get(), POLLOUT, cancel_, deadline,
                                        "QEMU's monitor to take a command"));
    } else if (errno == EPIPE || errno == ECONNRESET) {
      return Lost();
    } else if (errno != EINTR) {
      return ErrnoStatus(errno, fmt::format("write to the monitor at '{}'", path_));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Json> QmpClient::Execute(const std::string& command, const Json& arguments,
                                        int64_t timeout_ms) {
  return ExecuteWithDescriptor(command, arguments, -1, timeout_ms);
}

absl::StatusOr<Json> QmpClient::ExecuteWithDescriptor(const std::string& command,
                                                      const Json& arguments, int passed_fd,
                                                      int64_t timeout_ms) {
  Deadline deadline = DeadlineFor(timeout_ms);
  uint64_t id = next_id_++;
  Json request = {{"execute", command}, {"id", id}};
  if (!arguments.empty()) request["arguments"] = arguments;
  std::string text = request.dump(-1, ' ', false, Json::error_handler_t::replace);
  text += '\n';
  RETURN_IF_ERROR(Annotate(Send(text, passed_fd, deadline), fmt::format("QMP '{}'", command)));
  while (true) {
    absl::StatusOr<Json> reply = ReadReply(deadline, "QEMU's answer");
    if (!reply.ok()) return Annotate(reply.status(), fmt::format("QMP '{}'", command));
    // Answers to commands whose wait was cancelled are still on their way, and are not this one's.
    if (JsonNumber(*reply, "id") != id) continue;
    if (const Json& error = JsonMember(*reply, "error"); error.is_object()) {
      return ReplyError(command, error);
    }
    return JsonMember(*reply, "return");
  }
}

absl::Status QmpClient::SendDescriptor(const std::string& name, int fd) {
  return ExecuteWithDescriptor("getfd", {{"fdname", name}}, fd, kReplyTimeoutMs).status();
}

absl::StatusOr<std::string> QmpClient::HumanCommand(const std::string& line, int64_t timeout_ms) {
  ASSIGN_OR_RETURN(Json text,
                   Execute("human-monitor-command", {{"command-line", line}}, timeout_ms));
  return JsonText(text);
}

absl::StatusOr<QmpEvent> QmpClient::WaitForEvent(const std::function<bool(const QmpEvent&)>& wanted,
                                                 int64_t timeout_ms, const char* what) {
  Deadline deadline = DeadlineFor(timeout_ms);
  while (true) {
    while (!events_.empty()) {
      QmpEvent event = std::move(events_.front());
      events_.pop_front();
      if (wanted(event)) return event;
    }
    Json late_reply;  // of a cancelled command: nobody wants it
    RETURN_IF_ERROR(ReadMessage(deadline, what, &late_reply).status());
  }
}

absl::StatusOr<std::string> QmpClient::ReadLine(Deadline deadline, const char* what) {
  while (true) {
    size_t end = received_.find('\n', scanned_);
    if (end != std::string::npos) {
      std::string line = received_.substr(0, end);
      received_.erase(0, end + 1);
      scanned_ = 0;
      if (!line.empty() && line.back() == '\r') line.pop_back();
      return line;
    }
    scanned_ = received_.size();
    if (received_.size() > kMessageBytesMax) return NotQmp(path_, received_);
    std::array<char, 65536> chunk;
    ssize_t got = recv(socket_.get(), chunk.data(), chunk.size(), 0);
    if (got > 0) {
      received_.append(chunk.data(), static_cast<size_t>(got));
    } else if (got == 0 || errno == ECONNRESET) {
      return Lost();
    } else if (errno == EAGAIN) {
      RETURN_IF_ERROR(WaitForDescriptor(socket_.get(), POLLIN, cancel_, deadline, what));
    } else if (errno != EINTR) {
      return ErrnoStatus(errno, fmt::format("read from the monitor at '{}'", path_));
    }
  }
}

absl::StatusOr<bool> QmpClient::ReadMessage(Deadline deadline, const char* what, Json* reply) {
  while (true) {
    ASSIGN_OR_RETURN(std::string line, ReadLine(deadline, what));
    Json message = ParseJson<Json>(line);
    bool first = std::exchange(may_start_inside_message_, false);
    if (message.is_discarded() || !message.is_object()) {
      if (first) continue;  // the rest of a line whose beginning the former owner had read
      return NotQmp(path_, line);
    }
    std::string event = JsonText(message, "event");
    if (event.empty()) {
      *reply = std::move(message);
      return false;
    }
    if (events_.size() == kEventsKeptMax) events_.pop_front();
    events_.push_back({std::move(event), JsonMember(message, "data"), MonotonicNs()});
    return true;
  }
}

absl::StatusOr<Json> QmpClient::ReadReply(Deadline deadline, const char* what) {
  while (true) {
    Json reply;
    ASSIGN_OR_RETURN(bool is_event, ReadMessage(deadline, what, &reply));
    if (!is_event) return reply;
  }
}

absl::StatusOr<int> QmpClient::PeerPid() const {
  ucred peer{};
  socklen_t size = sizeof(peer);
  if (getsockopt(socket_.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0) {
    return ErrnoStatus(errno, fmt::format("ask who is behind the monitor at '{}'", path_));
  }
  return peer.pid;
}

}  // namespace faultline
