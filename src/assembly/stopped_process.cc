#include "assembly/stopped_process.h"

#include <fmt/format.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <string>
#include <system_error>
#include <thread>

#include "base/text.h"

namespace faultline {
namespace {

constexpr int kPatienceMs = 2000;
constexpr int kStepMs = 5;

// Of a thread's flags in /proc (PF_USER_WORKER): the kernel's own, such as KVM's
// kvm-nx-lpage-recovery since Linux 6.13, which no SIGSTOP reaches.
constexpr unsigned long kKernelWorker = 0x4000;

// Reads /proc/PID/task/TID/stat: "TID (name) state ppid pgrp session tty tpgid flags ...".
bool ThreadStandsStill(const std::filesystem::path& task) {
  absl::StatusOr<std::string> text = ReadTextFile((task / "stat").string());
  if (!text.ok()) return true;  // it has ended
  const size_t bracket = text->rfind(") ");
  if (bracket == std::string::npos) return false;
  char state = '?';
  unsigned long flags = 0;
  if (std::sscanf(text->c_str() + bracket + 2, "%c %*d %*d %*d %*d %*d %lu", &state, &flags) != 2) {
    return false;
  }
  // Stopped, traced, held in the kernel, ended; a kernel's own may sleep.
  if (std::string("TtDZX").find(state) != std::string::npos) return true;
  return state == 'S' && (flags & kKernelWorker) != 0;
}

bool StandsStill(pid_t pid) {
  std::error_code error;
  for (std::filesystem::directory_iterator task(fmt::format("/proc/{}/task", pid), error), end;
       !error && task != end; task.increment(error)) {
    if (!ThreadStandsStill(task->path())) return false;
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
