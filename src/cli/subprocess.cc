#include "cli/subprocess.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include "base/monotonic_time.h"

namespace faultline {
namespace {

constexpr size_t kCapturedBytesMax = 1 << 20;

// What posix_spawn needs, set up and torn down together.
class SpawnSettings {
 public:
  SpawnSettings(int output_fd, bool own_session) {
    posix_spawn_file_actions_init(&actions_);
    posix_spawn_file_actions_addopen(&actions_, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions_, output_fd, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions_, output_fd, STDERR_FILENO);
    posix_spawnattr_init(&attributes_);
    sigset_t signals;
    sigemptyset(&signals);
    posix_spawnattr_setsigmask(&attributes_, &signals);
    // This command ignores it, and what is ignored stays so across exec.
    sigaddset(&signals, SIGPIPE);
    posix_spawnattr_setsigdefault(&attributes_, &signals);
    int flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
    if (own_session) flags |= POSIX_SPAWN_SETSID;
    posix_spawnattr_setflags(&attributes_, static_cast<short>(flags));
  }
  ~SpawnSettings() {
    posix_spawn_file_actions_destroy(&actions_);
    posix_spawnattr_destroy(&attributes_);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;

  absl::StatusOr<pid_t> Spawn(const std::vector<std::string>& command,
                              const std::vector<std::string>& environment) {
    pid_t pid = -1;
    int error_number = posix_spawnp(&pid, command[0].c_str(), &actions_, &attributes_,
                                    Pointers(command).data(), Pointers(environment).data());
    if (error_number != 0) {
      return ErrnoStatus(error_number, fmt::format("start '{}'", command[0]));
    }
    return pid;
  }

 private:
  static std::vector<char*> Pointers(const std::vector<std::string>& texts) {
    std::vector<char*> pointers;
    for (const std::string& text : texts) pointers.push_back(const_cast<char*>(text.c_str()));
    pointers.push_back(nullptr);
    return pointers;
  }

  posix_spawn_file_actions_t actions_;
  posix_spawnattr_t attributes_;
};

std::vector<std::string> Environment(const std::vector<std::string>& added) {
  std::vector<std::string> result = added;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    std::string_view text(*entry);
    std::string_view name = text.substr(0, text.find('='));
    bool replaced = false;
    for (const std::string& other : added) {
      replaced |= std::string_view(other).substr(0, other.find('=')) == name;
    }
    if (!replaced) result.emplace_back(text);
  }
  return result;
}

// Reads to the end of the stream; false if that took too long.
bool ReadAll(int fd, int timeout_ms, std::string* text) {
  int64_t deadline_ms = MonotonicMs() + timeout_ms;
  std::array<char, 16384> chunk;
  while (true) {
    pollfd entry{.fd = fd, .events = POLLIN, .revents = 0};
    int64_t left_ms = deadline_ms - MonotonicMs();
    if (left_ms <= 0) return false;
    if (poll(&entry, 1, static_cast<int>(left_ms)) <= 0) continue;
    ssize_t got = read(fd, chunk.data(), chunk.size());
    if (got <= 0) return true;
    size_t room = kCapturedBytesMax - text->size();
    text->append(chunk.data(), std::min(room, static_cast<size_t>(got)));
  }
}

}  // namespace

absl::StatusOr<CapturedOutput> RunAndCapture(const std::vector<std::string>& command,
                                             int timeout_ms) {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) < 0) return ErrnoStatus(errno, "make a pipe");
  FileDescriptor reader(fds[0]);
  FileDescriptor writer(fds[1]);
  ASSIGN_OR_RETURN(pid_t pid, SpawnSettings(writer.get(), false).Spawn(command, Environment({})));
  writer.Reset();
  CapturedOutput output;
  bool in_time = ReadAll(reader.get(), timeout_ms, &output.text);
  if (!in_time) kill(pid, SIGKILL);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!in_time) {
    return absl::DeadlineExceededError(
        fmt::format("'{}' did not end within {} ms", command[0], timeout_ms));
  }
  output.exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return output;
}

absl::StatusOr<int> StartDetached(const std::vector<std::string>& command,
                                  const std::vector<std::string>& environment,
                                  const FileDescriptor& output) {
  return SpawnSettings(output.get(), true).Spawn(command, Environment(environment));
}

}  // namespace faultline
