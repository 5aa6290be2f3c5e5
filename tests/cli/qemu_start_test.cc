// `faultline receive -- qemu...` with the real QEMU and the real hook, over a fake session.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/text.h"
#include "cli/command_runner.h"

namespace faultline {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class QemuStartTest : public ::testing::Test {
 protected:
  CommandOptions Receive(const std::string& script, const std::vector<std::string>& qemu) {
    CommandOptions options;
    options.arguments = {"receive", "--listen", "tcp://127.0.0.1:0", "--json", "--"};
    options.arguments.insert(options.arguments.end(), qemu.begin(), qemu.end());
    options.environment = {{"FAKE_SESSION", script}, {"FAULTLINE_RUN_DIRECTORY", scratch_ / "run"}};
    return options;
  }
  // A script that stands before QEMU's name.
  std::string Script(const std::string& name, const std::string& text) {
    std::string path = scratch_ / name;
    std::ofstream(path) << "#!/bin/sh\n" << text;
    EXPECT_EQ(chmod(path.c_str(), 0755), 0);
    return path;
  }

  ScratchDirectory scratch_;
  const std::vector<std::string> kBareQemu = {"qemu-system-x86_64", "-M",       "none",
                                              "-nodefaults",        "-display", "none"};
};

std::string CommandLineOf(int pid) {
  absl::StatusOr<std::string> text = ReadTextFile("/proc/" + std::to_string(pid) + "/cmdline");
  if (!text.ok()) return "";
  for (char& c : *text) {
    if (c == '\0') c = ' ';
  }
  return *text;
}

bool EndsSoon(int pid) {
  FileDescriptor fd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  pollfd entry{.fd = fd.get(), .events = POLLIN, .revents = 0};
  return !fd.valid() || poll(&entry, 1, 10000) > 0;
}

TEST_F(QemuStartTest, QemuGetsWhatItNeedsAndOutlivesTheCommand) {
  RunningCommand command(Receive("complete", kBareQemu));
  ASSERT_TRUE(command.WaitForOut("\n"));
  json listening = json::parse(LinesOf(command.out()).front());
  ASSERT_EQ(listening["event"], "listening") << command.error();
  int qemu_pid = listening["qemu_pid"];
  EXPECT_EQ(command.WaitForExit(), 0) << command.error();
  EXPECT_EQ(kill(qemu_pid, 0), 0) << "QEMU must live on";
  EXPECT_EQ(getsid(qemu_pid), qemu_pid) << "in a session of its own";
  EXPECT_THAT(CommandLineOf(qemu_pid),
              AllOf(HasSubstr("-incoming defer"), HasSubstr("server=on,wait=off"),
                    HasSubstr("-plugin "), HasSubstr("faultline-qemu.so,socket=")));
  // The monitor is the real one: it greets.
  absl::StatusOr<FileDescriptor> monitor = ConnectUnix(listening["qmp"], SOCK_STREAM);
  ASSERT_TRUE(monitor.ok()) << monitor.status();
  char greeting[64] = {};
  EXPECT_GT(read(monitor->get(), greeting, sizeof(greeting) - 1), 0);
  EXPECT_THAT(greeting, HasSubstr("QMP"));
  kill(qemu_pid, SIGKILL);
  EXPECT_TRUE(EndsSoon(qemu_pid));
}

TEST_F(QemuStartTest, QemuEndsWhenTheVmStaysOnTheSource) {
  RunningCommand command(Receive("fail-before", kBareQemu));
  ASSERT_TRUE(command.WaitForOut("\n"));
  json listening = json::parse(LinesOf(command.out()).front());
  int qemu_pid = listening["qemu_pid"];
  EXPECT_EQ(command.WaitForExit(), 1);
  EXPECT_NE(kill(qemu_pid, 0), 0) << "QEMU must be gone";
  EXPECT_FALSE(std::filesystem::exists(listening["qmp"].get<std::string>()));
}

TEST_F(QemuStartTest, QemuStaysWhenItMayHaveTheVm) {
  RunningCommand command(Receive("undecided", kBareQemu));
  ASSERT_TRUE(command.WaitForOut("\n"));
  int qemu_pid = json::parse(LinesOf(command.out()).front())["qemu_pid"];
  EXPECT_EQ(command.WaitForExit(), 3);
  EXPECT_EQ(kill(qemu_pid, 0), 0);
  kill(qemu_pid, SIGKILL);
  EXPECT_TRUE(EndsSoon(qemu_pid));
}

TEST_F(QemuStartTest, AQemuThatFailsIsQuoted) {
  CommandResult result =
      RunCommand(Receive("complete", {"qemu-system-x86_64", "-M", "no-such-machine"}));
  EXPECT_EQ(result.exit_status, 1);
  json last = json::parse(LinesOf(result.out).back());
  EXPECT_EQ(last["event"], "failed");
  EXPECT_EQ(last["vm_owner"], "source");
  EXPECT_THAT(last["error"].get<std::string>(),
              AllOf(HasSubstr("ended with status 1"), HasSubstr("unsupported machine type"),
                    HasSubstr("qemu.log")));
}

TEST_F(QemuStartTest, AnInterruptWhileQemuStartsEndsIt) {
  // Answers --help as QEMU does, and then never opens its monitor.
  std::string slow = Script("slow-qemu",
                            "[ \"$1\" = --help ] && exec qemu-system-x86_64 --help\n"
                            "echo $$ >" +
                                (scratch_ / "pid") + "\nexec sleep 600\n");
  RunningCommand command(Receive("complete", {slow}));
  for (int i = 0; i < 1000 && !std::filesystem::exists(scratch_ / "pid"); ++i) usleep(10000);
  usleep(50000);
  command.Signal(SIGINT);
  EXPECT_EQ(command.WaitForExit(), 1);
  EXPECT_THAT(command.out(), HasSubstr("interrupted by SIGINT"));
  int pid = 0;
  std::ifstream(scratch_ / "pid") >> pid;
  ASSERT_GT(pid, 0);
  EXPECT_NE(kill(pid, 0), 0);
}

TEST_F(QemuStartTest, AQemuWithoutPluginsGetsTheHookPreloaded) {
  std::string plain = Script("plain-qemu",
                             "if [ \"$1\" = --help ]; then\n"
                             "  qemu-system-x86_64 --help | grep -v '^-plugin'\nelse\n"
                             "  exec qemu-system-x86_64 \"$@\"\nfi\n");
  std::vector<std::string> command_line = kBareQemu;
  command_line[0] = plain;
  RunningCommand command(Receive("undecided", command_line));
  ASSERT_TRUE(command.WaitForOut("\n"));
  json listening = json::parse(LinesOf(command.out()).front());
  ASSERT_EQ(listening["event"], "listening") << command.error();
  int qemu_pid = listening["qemu_pid"];
  EXPECT_EQ(command.WaitForExit(), 3);
  EXPECT_THAT(CommandLineOf(qemu_pid), Not(HasSubstr("-plugin")));
  absl::StatusOr<std::string> maps = ReadTextFile("/proc/" + std::to_string(qemu_pid) + "/maps");
  ASSERT_TRUE(maps.ok());
  EXPECT_THAT(*maps, HasSubstr("faultline-qemu.so"));
  kill(qemu_pid, SIGKILL);
  EXPECT_TRUE(EndsSoon(qemu_pid));
}

TEST_F(QemuStartTest, WhatIsNoQemuIsRefused) {
  CommandResult other = RunCommand(Receive("complete", {"/bin/true"}));
  EXPECT_EQ(other.exit_status, 2);
  EXPECT_THAT(other.error, HasSubstr("is no QEMU system emulator"));
  CommandResult absent = RunCommand(Receive("complete", {"/no/such/qemu"}));
  EXPECT_EQ(absent.exit_status, 1);
  EXPECT_THAT(absent.error, HasSubstr("start '/no/such/qemu': No such file"));
  CommandOptions hookless = Receive("complete", kBareQemu);
  hookless.environment.emplace_back("FAULTLINE_HOOK_LIBRARY", "/no/such/hook.so");
  CommandResult result = RunCommand(hookless);
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_THAT(result.error, HasSubstr("FAULTLINE_HOOK_LIBRARY"));
  CommandResult refused = RunCommand(Receive("refuse", kBareQemu));
  EXPECT_EQ(refused.exit_status, 2);
  EXPECT_THAT(refused.error, HasSubstr("--insecure"));
}

TEST_F(QemuStartTest, DoctorFindsThisHostFit) {
  CommandOptions options;
  options.arguments = {"doctor", "--vm", "/tmp/fake"};
  CommandResult result = RunCommand(options);
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_THAT(result.out,
              AllOf(HasSubstr("ok    userfaultfd: "), HasSubstr("QEMU emulator version"),
                    HasSubstr("loads plugins"), HasSubstr("ok    VM: 2 RAM blocks"),
                    HasSubstr("Post-copy is possible here.")));
  options.arguments = {"doctor", "--qemu", "/no/such/qemu"};
  CommandResult without = RunCommand(options);
  EXPECT_EQ(without.exit_status, 1);
  EXPECT_THAT(without.out, HasSubstr("FAIL  QEMU: start '/no/such/qemu'"));
}

}  // namespace
}  // namespace faultline
