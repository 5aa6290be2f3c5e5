#include "cli/command_runner.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <sstream>

namespace faultline {
namespace {

constexpr int kPatienceMs = 20000;

// A terminal's two ends: what is written to fds[1] is read from fds[0].
void OpenTerminal(int fds[2]) {
  winsize size{.ws_row = 24, .ws_col = 60, .ws_xpixel = 0, .ws_ypixel = 0};
  EXPECT_EQ(openpty(&fds[0], &fds[1], nullptr, nullptr, &size), 0);
  EXPECT_EQ(fcntl(fds[0], F_SETFD, FD_CLOEXEC), 0);
  EXPECT_EQ(fcntl(fds[1], F_SETFD, FD_CLOEXEC), 0);
}

}  // namespace

ScratchDirectory::ScratchDirectory() {
  char name[] = "/tmp/faultline-cli-XXXXXX";
  path_ = mkdtemp(name);
}

ScratchDirectory::~ScratchDirectory() { std::filesystem::remove_all(path_); }

RunningCommand::RunningCommand(const CommandOptions& options) {
  int out_fds[2];
  int error_fds[2];
  EXPECT_EQ(pipe2(out_fds, O_CLOEXEC), 0);
  if (options.error_is_terminal) {
    OpenTerminal(error_fds);
  } else {
    EXPECT_EQ(pipe2(error_fds, O_CLOEXEC), 0);
  }
  const char* program = getenv("FAULTLINE_FAKE");
  EXPECT_NE(program, nullptr) << "FAULTLINE_FAKE names the command under test";
  pid_ = fork();
  if (pid_ == 0) {
    dup2(out_fds[1], STDOUT_FILENO);
    dup2(error_fds[1], STDERR_FILENO);
    for (const auto& [name, value] : options.environment) setenv(name.c_str(), value.c_str(), 1);
    std::vector<char*> arguments = {const_cast<char*>(program)};
    for (const std::string& text : options.arguments) {
      arguments.push_back(const_cast<char*>(text.c_str()));
    }
    arguments.push_back(nullptr);
    if (options.close_stdout_reader) close(out_fds[0]);
    // A test run that was started by nohup would have the command ignore it.
    signal(SIGHUP, SIG_DFL);
    execv(program, arguments.data());
    _exit(127);
  }
  close(out_fds[1]);
  close(error_fds[1]);
  out_ = FileDescriptor(out_fds[0]);
  error_ = FileDescriptor(error_fds[0]);
  if (options.close_stdout_reader) out_.Reset();
}

RunningCommand::~RunningCommand() {
  if (pid_ < 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

void RunningCommand::Signal(int number) const { kill(pid_, number); }

bool RunningCommand::HasEnded() const {
  siginfo_t info{};
  return waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
         info.si_pid == pid_;
}

bool RunningCommand::WaitFor(FileDescriptor& fd, std::string& collected, const std::string& text) {
  std::array<char, 4096> chunk;
  while (text.empty() || collected.find(text) == std::string::npos) {
    pollfd entry{.fd = fd.get(), .events = POLLIN, .revents = 0};
    if (!fd.valid()) return false;
    if (poll(&entry, 1, kPatienceMs) <= 0) {
      ADD_FAILURE() << "no '" << text << "' came; so far: " << collected;
      kill(pid_, SIGKILL);
      return false;
    }
    ssize_t got = read(fd.get(), chunk.data(), chunk.size());
    if (got <= 0) return false;
    collected.append(chunk.data(), static_cast<size_t>(got));
  }
  return true;
}

int RunningCommand::WaitForExit() {
  WaitFor(out_, out_text_, "");
  WaitFor(error_, error_text_, "");
  int status = 0;
  waitpid(pid_, &status, 0);
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

CommandResult RunCommand(const CommandOptions& options) {
  RunningCommand command(options);
  CommandResult result;
  result.exit_status = command.WaitForExit();
  result.out = command.out();
  result.error = command.error();
  return result;
}

std::vector<std::string> LinesOf(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

}  // namespace faultline
