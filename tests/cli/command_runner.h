// Runs the `faultline` command as a child, the way a shell does.
#ifndef FAULTLINE_TESTS_CLI_COMMAND_RUNNER_H_
#define FAULTLINE_TESTS_CLI_COMMAND_RUNNER_H_

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/file_descriptor.h"

namespace faultline {

// A private directory under /tmp, removed with all that is in it.
class ScratchDirectory {
 public:
  ScratchDirectory();
  ~ScratchDirectory();
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

struct CommandOptions {
  std::vector<std::string> arguments;
  std::vector<std::pair<std::string, std::string>> environment;  // added
  bool close_stdout_reader = false;
  bool error_is_terminal = false;  // 60 columns wide
};

// A running command. Every wait has a limit; running over it fails the test and kills the command.
class RunningCommand {
 public:
  explicit RunningCommand(const CommandOptions& options);
  // Kills it if it still runs.
  ~RunningCommand();
  RunningCommand(const RunningCommand&) = delete;
  RunningCommand& operator=(const RunningCommand&) = delete;

  int pid() const { return pid_; }
  void Signal(int number) const;
  // Whether there is an exit status to wait for.
  bool HasEnded() const;
  // Reads until stdout (or stderr) holds `text`; false if the stream ended without.
  bool WaitForOut(const std::string& text) { return WaitFor(out_, out_text_, text); }
  bool WaitForError(const std::string& text) { return WaitFor(error_, error_text_, text); }
  // The exit status; 128 + the number of a signal that ended it.
  int WaitForExit();

  // All that was read: everything once WaitForExit has returned.
  const std::string& out() const { return out_text_; }
  const std::string& error() const { return error_text_; }

 private:
  bool WaitFor(FileDescriptor& fd, std::string& collected, const std::string& text);

  int pid_ = -1;
  FileDescriptor out_;
  FileDescriptor error_;
  std::string out_text_;
  std::string error_text_;
};

struct CommandResult {
  int exit_status = -1;
  std::string out;
  std::string error;
};

// From start to end.
CommandResult RunCommand(const CommandOptions& options);

// The lines of `text`.
std::vector<std::string> LinesOf(const std::string& text);

}  // namespace faultline

#endif  // FAULTLINE_TESTS_CLI_COMMAND_RUNNER_H_
