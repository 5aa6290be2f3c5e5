#include "assembly/stopped_process.h"

#include <fmt/format.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <string>
#include <system_error>
#include <thread>

#include "base/text.h"

namespace faultline {
namespace {

constexpr int kPatienceMs = 2000;
constexpr int kStepMs = 5;

// The letter of /proc/PID/task/TID/stat, after the name in brackets; 'X' for one that has ended.
char StateOf(const std::filesystem::path& task) {
  absl::StatusOr<std::string> text = ReadTextFile((task / "stat").string());
  if (!text.ok()) return 'X';
  const size_t bracket = text->rfind(") ");
  return bracket == std::string::npos || bracket + 2 >= text->size() ? '?' : (*text)[bracket + 2];
}

bool StandsStill(pid_t pid) {
  std::error_code error;
  for (std::filesystem::directory_iterator task(fmt::format("/proc/{}/task", pid), error), end;
       !error && task != end; task.increment(error)) {
    // Stopped, traced, waiting in the kernel, ended.
    if (std::string("TtDZX").find(StateOf(task->path())) == std::string::npos) return false;
  }
  return !error;
}

}  // namespace

StoppedProcess::StoppedProcess(pid_t pid) : pid_(pid) {
  sigset_t wait;
  sigemptyset(&wait);
  for (int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) sigaddset(&wait, number);
  pthread_sigmask(SIG_BLOCK, &wait, &blocked_before_);
}

StoppedProcess::~StoppedProcess() {
  (void)kill(pid_, SIGCONT);
  pthread_sigmask(SIG_SETMASK, &blocked_before_, nullptr);
}

absl::StatusOr<std::unique_ptr<StoppedProcess>> StoppedProcess::Stop(pid_t pid) {
  if (pid <= 0) {
    return absl::FailedPreconditionError(
        "the VM's process is not visible from here (another process namespace): run this command "
        "where it is");
  }
  std::unique_ptr<StoppedProcess> stopped(new StoppedProcess(pid));
  if (kill(pid, SIGSTOP) < 0) {
    return ErrnoStatus(errno, fmt::format("stop the VM's process {}", pid));
  }
  for (int waited_ms = 0; !StandsStill(pid); waited_ms += kStepMs) {
    if (waited_ms >= kPatienceMs) {
      return absl::DeadlineExceededError(
          fmt::format("the VM's process {} does not stand still {} ms after a SIGSTOP; is it being "
                      "traced, or does something let it go on?",
                      pid, kPatienceMs));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(kStepMs));
  }
  return stopped;
}

}  // namespace faultline
