#include "hook/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "base/check.h"

namespace faultline {
namespace {

constexpr int kAskTimeoutMs = 10000;

std::pair<FileDescriptor, FileDescriptor> MakePipe() {
  int fds[2];
  FAULTLINE_CHECK(pipe2(fds, O_CLOEXEC) == 0);
  return {FileDescriptor(fds[0]), FileDescriptor(fds[1])};
}

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& text : strings) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

void SleepMs(int duration_ms) { poll(nullptr, 0, duration_ms); }

ChildProcess::ChildProcess(const std::vector<std::string>& argv,
                           const std::vector<std::string>& extra_environment) {
  auto [child_input, input] = MakePipe();
  auto [output, child_output] = MakePipe();
  auto [errors, child_errors] = MakePipe();
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, child_input.get(), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, child_output.get(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, child_errors.get(), STDERR_FILENO);
  std::vector<std::string> arguments = argv;
  std::vector<std::string> environment = extra_environment;
  for (char** entry = environ; *entry; ++entry) environment.emplace_back(*entry);
  int result = posix_spawn(&pid_, arguments[0].c_str(), &actions, nullptr,
                           Pointers(arguments).data(), Pointers(environment).data());
  posix_spawn_file_actions_destroy(&actions);
  FAULTLINE_CHECK(result == 0);
  input_ = std::move(input);
  output_ = std::move(output);
  errors_ = std::move(errors);
  FAULTLINE_CHECK(SetNonBlocking(errors_.get(), true).ok());
}

ChildProcess::~ChildProcess() {
  if (pid_ < 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

void ChildProcess::Write(const std::string& line) {
  std::string text = line + "\n";
  FAULTLINE_CHECK(write(input_.get(), text.data(), text.size()) ==
                  static_cast<ssize_t>(text.size()));
}

std::optional<std::string> ChildProcess::ReadLine(int timeout_ms) {
  for (;;) {
    if (size_t end = pending_.find('\n'); end != std::string::npos) {
      std::string line = pending_.substr(0, end);
      pending_.erase(0, end + 1);
      return line;
    }
    pollfd event{.fd = output_.get(), .events = POLLIN, .revents = 0};
    if (poll(&event, 1, timeout_ms) <= 0) return std::nullopt;
    char buffer[4096];
    ssize_t count = read(output_.get(), buffer, sizeof(buffer));
    if (count <= 0) return std::nullopt;
    pending_.append(buffer, static_cast<size_t>(count));
  }
}

std::string ChildProcess::Ask(const std::string& line) {
  Write(line);
  return ReadLine(kAskTimeoutMs).value_or("");
}

std::string ChildProcess::Errors() {
  std::string text;
  char buffer[4096];
  ssize_t count;
  while ((count = read(errors_.get(), buffer, sizeof(buffer))) > 0) {
    text.append(buffer, static_cast<size_t>(count));
  }
  return text;
}

std::optional<int> ChildProcess::Wait(int timeout_ms) {
  int status = 0;
  bool ended = WaitFor(timeout_ms, [&] { return waitpid(pid_, &status, WNOHANG) == pid_; });
  if (!ended) return std::nullopt;
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void ChildProcess::Kill(int signal_number) { kill(pid_, signal_number); }

ScratchDirectory::ScratchDirectory() : path_("/dev/shm/faultline-hook-XXXXXX") {
  FAULTLINE_CHECK(mkdtemp(path_.data()) != nullptr);
}

ScratchDirectory::~ScratchDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string ScratchDirectory::MakeFile(const std::string& name, uint64_t size_bytes) const {
  std::string path = path_ + "/" + name;
  FileDescriptor file(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  FAULTLINE_CHECK(file.valid());
  FAULTLINE_CHECK(ftruncate(file.get(), static_cast<off_t>(size_bytes)) == 0);
  return path;
}

}  // namespace faultline
