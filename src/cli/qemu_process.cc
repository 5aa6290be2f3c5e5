#include "cli/qemu_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "base/monotonic_time.h"
#include "base/private_path.h"
#include "cli/subprocess.h"

namespace faultline {
namespace {

constexpr int kLookAgainMs = 10;
constexpr int kTermPatienceMs = 3000;
constexpr std::streamoff kTailBytesMax = 2000;

// Asks the kernel instead of connecting: QEMU's monitor serves one client at a time.
bool IsListening(const std::string& path) {
  static constexpr unsigned long kAcceptsConnections = 1 << 16;  // __SO_ACCEPTCON
  std::ifstream sockets("/proc/net/unix");
  std::string line;
  while (std::getline(sockets, line)) {
    if (line.size() <= path.size() ||
        line.compare(line.size() - path.size() - 1, std::string::npos, " " + path) != 0) {
      continue;
    }
    std::istringstream fields(line);
    std::string number, references, protocol, flags;
    fields >> number >> references >> protocol >> flags;
    if ((std::strtoul(flags.c_str(), nullptr, 16) & kAcceptsConnections) != 0) return true;
  }
  return false;
}

bool AllListening(const std::vector<std::string>& paths) {
  return std::all_of(paths.begin(), paths.end(), IsListening);
}

std::string ExitSentence(int pid) {
  siginfo_t info{};
  if (waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT | WNOHANG) < 0) return "ended";
  if (info.si_code == CLD_EXITED) return fmt::format("ended with status {}", info.si_status);
  return fmt::format("was ended by signal {}", info.si_status);
}

}  // namespace

absl::StatusOr<std::unique_ptr<QemuProcess>> QemuProcess::Start(const QemuPlan& plan,
                                                                const std::string& log_path) {
  ASSIGN_OR_RETURN(FileDescriptor log, MakePrivateFile(AT_FDCWD, log_path, O_WRONLY | O_APPEND));
  ASSIGN_OR_RETURN(int pid, StartDetached(plan.command, plan.environment, log));
  FileDescriptor pid_fd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!pid_fd.valid()) {
    absl::Status status = ErrnoStatus(errno, "watch the QEMU that was started");
    kill(pid, SIGKILL);
    (void)waitpid(pid, nullptr, 0);
    return status;
  }
  return std::unique_ptr<QemuProcess>(new QemuProcess(pid, std::move(pid_fd), log_path));
}

QemuProcess::QemuProcess(int pid, FileDescriptor pid_fd, std::string log_path)
    : pid_(pid), pid_fd_(std::move(pid_fd)), log_path_(std::move(log_path)) {}

QemuProcess::~QemuProcess() {
  if (let_go_) return;
  // The pid is ours until it is waited for.
  kill(pid_, SIGTERM);
  pollfd entry{.fd = pid_fd_.get(), .events = POLLIN, .revents = 0};
  int64_t deadline_ms = MonotonicMs() + kTermPatienceMs;
  int64_t left_ms = kTermPatienceMs;
  while (left_ms > 0 && poll(&entry, 1, static_cast<int>(left_ms)) < 0) {
    left_ms = deadline_ms - MonotonicMs();
  }
  if (!HasExited()) kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

bool QemuProcess::HasExited() const {
  pollfd entry{.fd = pid_fd_.get(), .events = POLLIN, .revents = 0};
  return poll(&entry, 1, 0) > 0;
}

absl::Status QemuProcess::WaitUntilServing(const std::vector<std::string>& socket_paths,
                                           int cancel_fd, int timeout_ms) {
  int64_t deadline_ms = MonotonicMs() + timeout_ms;
  std::array<pollfd, 2> entries = {pollfd{.fd = pid_fd_.get(), .events = POLLIN, .revents = 0},
                                   pollfd{.fd = cancel_fd, .events = POLLIN, .revents = 0}};
  while (!AllListening(socket_paths)) {
    if (MonotonicMs() >= deadline_ms) {
      return absl::DeadlineExceededError(
          fmt::format("the destination QEMU did not open its monitor and its hook within {} s; "
                      "look into '{}'{}",
                      timeout_ms / 1000, log_path_, SaidSentence()));
    }
    if (poll(entries.data(), entries.size(), kLookAgainMs) <= 0) continue;
    if (entries[1].revents != 0) return absl::CancelledError("cancelled while QEMU was starting");
    return absl::FailedPreconditionError(
        fmt::format("the destination QEMU {} before its monitor was there (its output is in "
                    "'{}'){}",
                    ExitSentence(pid_), log_path_, SaidSentence()));
  }
  return absl::OkStatus();
}

std::string QemuProcess::SaidSentence() const {
  std::string tail = LogTail();
  return tail.empty() ? "; it said nothing" : "; it said:\n" + tail;
}

std::string QemuProcess::LogTail() const {
  std::ifstream log(log_path_, std::ios::binary | std::ios::ate);
  std::streamoff size = log.tellg();
  if (size <= 0) return "";
  std::streamoff begin = std::max<std::streamoff>(0, size - kTailBytesMax);
  std::string tail(static_cast<size_t>(size - begin), '\0');
  log.seekg(begin);
  log.read(tail.data(), size - begin);
  tail.resize(static_cast<size_t>(log.gcount()));
  while (!tail.empty() && tail.back() == '\n') tail.pop_back();
  return tail;
}

}  // namespace faultline
