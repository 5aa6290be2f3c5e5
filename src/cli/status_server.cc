#include "cli/status_server.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>

#include "base/monotonic_time.h"
#include "cli/report_json.h"
#include "runtime/confinement/capabilities.h"

namespace faultline {
namespace {

constexpr size_t kLineBytesMax = 64 * 1024;
constexpr int kServerPatienceMs = 500;
constexpr int kClientPatienceMs = 3000;
constexpr int kBacklog = 8;

// Reads up to a line end, which is left out.
absl::StatusOr<std::string> ReadLine(int fd, int patience_ms) {
  int64_t deadline_ms = MonotonicMs() + patience_ms;
  std::string line;
  std::array<char, 4096> chunk;
  while (line.size() < kLineBytesMax) {
    pollfd entry{.fd = fd, .events = POLLIN, .revents = 0};
    int64_t left_ms = deadline_ms - MonotonicMs();
    int ready = left_ms <= 0 ? 0 : poll(&entry, 1, static_cast<int>(left_ms));
    if (ready == 0) return absl::DeadlineExceededError("no answer in time");
    if (ready < 0) continue;
    ssize_t got = read(fd, chunk.data(), chunk.size());
    if (got < 0) return ErrnoStatus(errno, "read");
    if (got == 0) return absl::UnavailableError("the connection ended in the middle of a line");
    line.append(chunk.data(), static_cast<size_t>(got));
    size_t end = line.find('\n');
    if (end != std::string::npos) return line.substr(0, end);
  }
  return absl::InvalidArgumentError("a line of more than 64 KiB came");
}

absl::Status WriteLine(int fd, const std::string& line) {
  std::string text = line + "\n";
  size_t written = 0;
  while (written < text.size()) {
    ssize_t count = send(fd, text.data() + written, text.size() - written, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return ErrnoStatus(errno, "write");
    written += static_cast<size_t>(count);
  }
  return absl::OkStatus();
}

void SetWriteTimeout(int fd, int timeout_ms) {
  timeval timeout{.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
  (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
}

bool PeerMayAsk(int fd) {
  ucred peer{};
  socklen_t size = sizeof(peer);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0) return false;
  return peer.uid == 0 || peer.uid == geteuid();
}

std::string Refusal(const std::string& error) { return ToLine({{"ok", false}, {"error", error}}); }

}  // namespace

absl::StatusOr<std::unique_ptr<StatusServer>> StatusServer::Start(const std::string& path,
                                                                  const StatusBoard* board,
                                                                  CancelSwitch* cancel) {
  FileDescriptor listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.valid()) return ErrnoStatus(errno, "make the status socket");
  // Renamed once it listens: at its own name a socket that refuses is one that nobody serves.
  std::string first_path = path + ".new";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (first_path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(fmt::format("status socket '{}': too long a path", path));
  }
  memcpy(address.sun_path, first_path.data(), first_path.size());
  // Before bind, so that the file never has another mode.
  if (fchmod(listener.get(), 0600) < 0 ||
      bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) < 0 ||
      listen(listener.get(), kBacklog) < 0 || rename(first_path.c_str(), path.c_str()) < 0) {
    return ErrnoStatus(errno, fmt::format("serve the status socket '{}'", path));
  }
  FileDescriptor stop(eventfd(0, EFD_CLOEXEC));
  if (!stop.valid()) return ErrnoStatus(errno, "make an event descriptor");
  return std::unique_ptr<StatusServer>(
      new StatusServer(std::move(listener), std::move(stop), path, board, cancel));
}

StatusServer::StatusServer(FileDescriptor listener, FileDescriptor stop, std::string path,
                           const StatusBoard* board, CancelSwitch* cancel)
    : listener_(std::move(listener)),
      stop_(std::move(stop)),
      board_(board),
      cancel_(cancel),
      path_(std::move(path)),
      thread_([this] { ThreadMain(); }) {}

StatusServer::~StatusServer() {
  eventfd_write(stop_.get(), 1);
  thread_.join();
  (void)unlink(path_.c_str());
}

absl::Status StatusServer::MoveTo(const std::string& path) {
  std::lock_guard lock(mutex_);
  if (rename(path_.c_str(), path.c_str()) < 0) {
    return ErrnoStatus(errno, fmt::format("rename the status socket '{}' to '{}'", path_, path));
  }
  path_ = path;
  return absl::OkStatus();
}

void StatusServer::ThreadMain() {
  KeepNoCapabilities();
  std::array<pollfd, 2> entries = {pollfd{.fd = listener_.get(), .events = POLLIN, .revents = 0},
                                   pollfd{.fd = stop_.get(), .events = POLLIN, .revents = 0}};
  while (true) {
    if (poll(entries.data(), entries.size(), -1) < 0) continue;
    if (entries[1].revents != 0) return;
    FileDescriptor client(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (client.valid()) {
      ServeClient(client.get());
    } else {
      // Out of descriptors, most likely: the client still waits, and so poll would return at once.
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  }
}

void StatusServer::ServeClient(int fd) {
  SetWriteTimeout(fd, kServerPatienceMs);
  if (!PeerMayAsk(fd)) {
    (void)WriteLine(fd, Refusal("only the user who runs this migration, or root, may ask"));
    return;
  }
  absl::StatusOr<std::string> request = ReadLine(fd, kServerPatienceMs);
  if (!request.ok()) return;
  (void)WriteLine(fd, Answer(*request));
}

std::string StatusServer::Answer(const std::string& request) {
  std::string kind;
  std::string reason = "cancelled from another shell";
  if (!ReadText(request, "request", &kind)) return Refusal("this is no request");
  SessionState state = board_->Get();
  if (kind == "status") return ToLine(StateJson(state));
  if (kind == "postcopy-now") {
    if (state.role != Role::kSource) return Refusal("ask the source's side of the migration");
    const bool before = state.phase == Phase::kConnecting || state.phase == Phase::kPreparing;
    if (!before && state.phase != Phase::kPreCopy) {
      return Refusal("the VM is on its way to the destination already, or there");
    }
    cancel_->RequestSwitch();
    return ToLine({{"ok", true}});
  }
  if (kind != "cancel") return Refusal(fmt::format("unknown request '{}'", kind));
  if (PastHandover(state.phase)) {
    return Refusal("the VM runs on the destination already; stopping now would lose its memory");
  }
  (void)ReadText(request, "reason", &reason);
  cancel_->Request(reason);
  return ToLine({{"ok", true}});
}

absl::StatusOr<std::string> AskSession(const std::string& path, const std::string& request) {
  ASSIGN_OR_RETURN(FileDescriptor fd, ConnectUnix(path, SOCK_STREAM));
  SetWriteTimeout(fd.get(), kClientPatienceMs);
  std::string what = fmt::format("ask the migration at '{}'", path);
  if (absl::Status status = WriteLine(fd.get(), request); !status.ok()) {
    return Annotate(status, what);
  }
  absl::StatusOr<std::string> answer = ReadLine(fd.get(), kClientPatienceMs);
  if (!answer.ok()) return Annotate(answer.status(), what);
  return answer;
}

}  // namespace faultline
