// A child process of a test, talked to by lines.
#ifndef FAULTLINE_TESTS_HOOK_CHILD_PROCESS_H_
#define FAULTLINE_TESTS_HOOK_CHILD_PROCESS_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "base/file_descriptor.h"

namespace faultline {

// Killed with SIGKILL and reaped when it goes out of scope.
class ChildProcess {
 public:
  // Runs `argv[0]` with `extra_environment` ("NAME=value") added. Aborts the test binary if it
  // cannot.
  ChildProcess(const std::vector<std::string>& argv,
               const std::vector<std::string>& extra_environment);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  // Sends a line to its standard input.
  void Write(const std::string& line);
  // The next line of its standard output; none if it does not come in time.
  std::optional<std::string> ReadLine(int timeout_ms);
  // Write, then ReadLine; an empty string if there is no answer within 10 s.
  std::string Ask(const std::string& line);
  // What it has written to its standard error so far.
  std::string Errors();
  // Waits for its end. The exit status, 128 + signal, or none if it goes on.
  std::optional<int> Wait(int timeout_ms);
  // Ends its standard input.
  void CloseInput() { input_.Reset(); }
  void Kill(int signal_number);

 private:
  pid_t pid_ = -1;
  FileDescriptor input_;
  FileDescriptor output_;
  FileDescriptor errors_;
  std::string pending_;
};

// A directory under /dev/shm (tmpfs), removed with its content.
class ScratchDirectory {
 public:
  ScratchDirectory();
  ~ScratchDirectory();
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  const std::string& path() const { return path_; }
  // Makes an empty file of `size_bytes` (a hole) and returns its path.
  std::string MakeFile(const std::string& name, uint64_t size_bytes) const;

 private:
  std::string path_;
};

// Calls `done` until it is true or the time is over; true if it was.
template <typename Done>
bool WaitFor(int timeout_ms, Done done);

// Sleeps.
void SleepMs(int duration_ms);

template <typename Done>
bool WaitFor(int timeout_ms, Done done) {
  constexpr int kStepMs = 10;
  for (int waited_ms = 0; !done(); waited_ms += kStepMs) {
    if (waited_ms >= timeout_ms) return false;
    SleepMs(kStepMs);
  }
  return true;
}

}  // namespace faultline

#endif  // FAULTLINE_TESTS_HOOK_CHILD_PROCESS_H_
