#include "assembly/stopped_process.h"

#include <fmt/format.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <string>
#include <system_error>
#include <thread>

#include "base/text.h"

namespace faultline {
namespace {

constexpr int kTries = 5;
constexpr int kPatienceMs = 400;  // of each try
constexpr int kStepMs = 5;
// For how long threads run between two tries: who needs a missing page waits for it by then.
constexpr int kPauseMs = 20;

// Of a thread's flags in /proc (PF_USER_WORKER): the kernel's own, such as KVM's
// kvm-nx-lpage-recovery since Linux 6.13, which no SIGSTOP reaches.
constexpr unsigned long kKernelWorker = 0x4000;

using ThreadNames = std::set<std::string>;

// Reads /proc/PID/task/TID/stat: "TID (name) state ppid pgrp session tty tpgid flags ...".
struct ThreadState {
  char letter = '?';
  unsigned long flags = 0;
};

ThreadState StateOf(const std::filesystem::path& task) {
  ThreadState state;
  absl::StatusOr<std::string> text = ReadTextFile((task / "stat").string());
  if (!text.ok()) return {.letter = 'X', .flags = 0};  // it has ended
  const size_t bracket = text->rfind(") ");
  if (bracket == std::string::npos ||
      std::sscanf(text->c_str() + bracket + 2, "%c %*d %*d %*d %*d %*d %lu", &state.letter,
                  &state.flags) != 2) {
    return {};
  }
  return state;
}

bool WaitsForPage(const std::filesystem::path& task) {
  absl::StatusOr<std::string> where = ReadTextFile((task / "wchan").string());
  return where.ok() && *where == "handle_userfault";
}

bool StandsStill(const std::filesystem::path& task, const ThreadNames& waiting) {
  const ThreadState state = StateOf(task);
  if (std::string("TtZX").find(state.letter) != std::string::npos) return true;
  if (state.letter == 'S' && (state.flags & kKernelWorker) != 0) return true;
  return waiting.contains(task.filename().string()) || WaitsForPage(task);
}

template <typename Check>  // bool(const std::filesystem::path& task)
bool AllThreads(pid_t pid, Check check) {
  std::error_code error;
  for (std::filesystem::directory_iterator task(fmt::format("/proc/{}/task", pid), error), end;
       !error && task != end; task.increment(error)) {
    if (!check(task->path())) return false;
  }
  return !error;
}

// Threads that the kernel holds in a page fault. A SIGSTOP ends the wait of most of them; one whose
// fault is the kernel's own (KVM emulates an instruction, a system call copies) begins it again and
// again, and cannot be told from one that runs then.
ThreadNames ThreadsThatWait(pid_t pid) {
  ThreadNames waiting;
  AllThreads(pid, [&](const std::filesystem::path& task) {
    if (WaitsForPage(task)) waiting.insert(task.filename().string());
    return true;
  });
  return waiting;
}

// To each thread: any of them that takes the signal stops all, but the kernel offers one that was
// sent to the process to its first thread only, which may be held in a fault.
bool SendStop(pid_t pid) {
  if (kill(pid, SIGSTOP) < 0) return false;
  AllThreads(pid, [&](const std::filesystem::path& task) {
    (void)syscall(SYS_tgkill, pid, std::atoi(task.filename().c_str()), SIGSTOP);
    return true;
  });
  return true;
}

bool StandsStillWithin(pid_t pid, int patience_ms, const ThreadNames& waiting) {
  for (int waited_ms = 0; waited_ms < patience_ms; waited_ms += kStepMs) {
    if (AllThreads(pid, [&](const auto& task) { return StandsStill(task, waiting); })) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(kStepMs));
  }
  return false;
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
  for (int tries = 0; tries < kTries; ++tries) {
    const ThreadNames waiting = ThreadsThatWait(pid);
    if (!SendStop(pid)) {
      return ErrnoStatus(errno, fmt::format("stop the VM's process {}", pid));
    }
    if (StandsStillWithin(pid, kPatienceMs, waiting)) return stopped;
    // One may have come to a missing page since it was looked for.
    (void)kill(pid, SIGCONT);
    std::this_thread::sleep_for(std::chrono::milliseconds(kPauseMs));
  }
  return absl::DeadlineExceededError(
      fmt::format("the VM's process {} does not stand still {} ms after a SIGSTOP, {} times over; "
                  "is it being traced, or does something let it go on?",
                  pid, kPatienceMs, kTries));
}

}  // namespace faultline
