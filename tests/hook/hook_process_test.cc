// What the hook does to the process that it lives in: next to nothing.
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/text.h"
#include "hook/hook_fixture.h"

namespace faultline {
namespace {

using HookProcessTest = HookFixture;

// The hook's thread in `pid`, as a /proc path; empty if there is none.
std::string HookThread(pid_t pid) {
  std::string tasks = "/proc/" + std::to_string(pid) + "/task";
  for (const auto& task : std::filesystem::directory_iterator(tasks)) {
    if (ReadTextFile(task.path().string() + "/comm").value_or("") == "faultline-hook\n") {
      return task.path().string();
    }
  }
  return "";
}

std::string StatusField(const std::string& proc_path, const std::string& name) {
  std::ifstream status(proc_path + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(name + ":", 0) == 0) return line.substr(name.size() + 2);
  }
  return "";
}

// The targets of `pid`'s open descriptors that can only be the hook's.
std::string HookDescriptors(pid_t pid) {
  std::string found;
  std::string directory = "/proc/" + std::to_string(pid) + "/fd";
  for (const auto& fd : std::filesystem::directory_iterator(directory)) {
    std::error_code gone;
    std::string target = std::filesystem::read_symlink(fd.path(), gone).string();
    for (const char* sign : {"socket:", "userfaultfd", "page-state", "/maps"}) {
      if (target.find(sign) != std::string::npos) found += target + " ";
    }
  }
  return found;
}

TEST_F(HookProcessTest, ThreadIsNamedAndTakesNoSignals) {
  StartTarget();
  std::string thread;
  ASSERT_TRUE(WaitFor(kTimeoutMs, [&] { return !(thread = HookThread(target_->pid())).empty(); }));
  // All but SIGKILL, SIGSTOP and the two that glibc keeps for itself.
  EXPECT_EQ(StatusField(thread, "SigBlk"), "fffffffe7ffbfeff");
  std::string main_thread = "/proc/" + std::to_string(target_->pid());
  EXPECT_EQ(StatusField(main_thread, "SigBlk"), "0000000000000000");
}

TEST_F(HookProcessTest, ChildrenDoNotInheritTheSocketVariable) {
  StartTarget();
  EXPECT_EQ(target_->Ask("env"), "env unset");
}

TEST_F(HookProcessTest, StaysOutOfOtherProcesses) {
  std::vector<std::string> environment = {"LD_PRELOAD=" + HookLibrary(),
                                          "FAULTLINE_HOOK_SOCKET=" + socket_path_};
  ChildProcess other({HookTarget()}, environment);
  EXPECT_EQ(other.Ask("env"), "env " + socket_path_) << "left for the QEMU that it may start";
  EXPECT_FALSE(std::filesystem::exists(socket_path_));
  EXPECT_EQ(HookThread(other.pid()), "");
}

TEST_F(HookProcessTest, ActsInAProcessNamedLikeQemu) {
  std::string qemu_like = scratch_.path() + "/my-qemu-kvm";
  std::filesystem::copy_file(HookTarget(), qemu_like);
  ChildProcess qemu({qemu_like},
                    {"LD_PRELOAD=" + HookLibrary(), "FAULTLINE_HOOK_SOCKET=" + socket_path_});
  EXPECT_EQ(qemu.Ask("env"), "env unset");
  EXPECT_EQ(Connect().info().process_id, qemu.pid());
}

TEST_F(HookProcessTest, AForkedChildKeepsNoDescriptorOfTheHook) {
  StartTarget();
  HookRegionRequest region = MapFile("ram", kMiB);
  HookClient client = Connect();
  absl::StatusOr<ArmedRegions> armed = client.Arm(std::vector{region}, MakePageState("x"), 0);
  ASSERT_TRUE(armed.ok()) << armed.status();
  EXPECT_NE(HookDescriptors(target_->pid()), "");
  std::string answer = target_->Ask("fork");
  int child = 0;
  ASSERT_EQ(sscanf(answer.c_str(), "child %d", &child), 1) << answer;
  // The child closes them when it first runs, which may be after its parent has answered.
  std::string kept;
  EXPECT_TRUE(WaitFor(kTimeoutMs, [&] { return (kept = HookDescriptors(child)).empty(); })) << kept;
  kill(child, SIGKILL);
  EXPECT_TRUE(client.Ping().ok());
}

TEST_F(HookProcessTest, DaemonizeIsServedByTheGrandchild) {
  target_ = std::make_unique<ChildProcess>(std::vector<std::string>{HookTarget(), "-daemonize"},
                                           PreloadEnvironment());
  std::string answer = target_->Ask("pid");
  EXPECT_EQ(target_->Wait(kTimeoutMs), 0) << "the first process leaves";
  int grandchild = 0;
  ASSERT_EQ(sscanf(answer.c_str(), "pid %d", &grandchild), 1) << answer;
  EXPECT_EQ(Connect().info().process_id, grandchild);
  EXPECT_NE(HookThread(grandchild), "");
  target_->CloseInput();
  EXPECT_TRUE(WaitFor(kTimeoutMs, [&] { return !std::filesystem::exists(socket_path_); }));
}

}  // namespace
}  // namespace faultline
