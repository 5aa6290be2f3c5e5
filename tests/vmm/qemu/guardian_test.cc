// The guardian, for real: a process migrates, is killed with SIGKILL at a step, and the test looks
// at what became of the VM. This program is also that process, and its guardian.
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/text.h"
#include "runtime/journal/file_journal.h"
#include "vmm/qemu/driver_fixture.h"

namespace faultline {
namespace {

constexpr const char* kId = "00112233445566778899aabbccddeeff";

// Says which step was reached, and waits to be killed.
void ReachedAndWait(const std::string& step) {
  fmt::print("{}\n", step);
  std::fflush(stdout);
  while (true) pause();
}

bool Report(const absl::Status& status) {
  if (!status.ok()) fmt::print("error: {}\n", MessageOf(status));
  std::fflush(stdout);
  return status.ok();
}

// What `faultline migrate` does up to `last`, as far as driver and journal are concerned.
int MigrateUpTo(const std::string& last, const std::string& qmp, const std::string& journal_path) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  auto journal = FileJournal::Create(journal_path, journal_path + ".state", kId, "source");
  if (!Report(journal.status())) return 1;
  Loop loop("control");
  loop.StartThread();
  SourceHandle source(&loop, {qmp, journal_path});
  if (!Report(source.Prepare().status())) return 1;
  if (!Report((*journal)->Record(JournalPhase::kPreparing))) return 1;
  if (last == "prepared") ReachedAndWait(last);
  if (last == "paused") {
    if (!Report(source.SetPaused(true))) return 1;
    ReachedAndWait(last);
  }
  if (last == "freezing") {
    auto frozen = source.BeginFreeze();
    ReachedAndWait(last);
  }
  if (!Report(source.Freeze().status())) return 1;
  if (!Report((*journal)->Record(JournalPhase::kFrozen))) return 1;
  if (last == "frozen") ReachedAndWait(last);
  if (last == "saving") {
    auto saved = source.BeginSaveDevices();
    ReachedAndWait(last);
  }
  if (last == "guardian-lost") {
    ReachedAndWait(Report(source.SaveDevices()) ? "saved" : last);
  }
  if (!Report(source.SaveDevices())) return 1;
  if (last == "saved") ReachedAndWait(last);
  if (last == "retired") {
    if (!Report((*journal)->Record(JournalPhase::kCommitted))) return 1;
    if (!Report(source.Retire(false))) return 1;
    ReachedAndWait(last);
  }
  if (last == "rolled-back") {
    if (!Report(source.Rollback())) return 1;
    ReachedAndWait(last);
  }
  if (!Report((*journal)->Record(JournalPhase::kCommitted))) return 1;
  ReachedAndWait("committed");
  return 1;
}

// What `faultline receive` does; `last` is "prepared", or (in the journal only) "loaded" or "told",
// where the source has said that it keeps the VM.
int ReceiveUpTo(const std::string& last, const std::string& qmp, const std::string& journal_path) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  auto journal = FileJournal::Create(journal_path, journal_path + ".state", kId, "destination");
  if (!Report(journal.status())) return 1;
  Loop loop("control");
  loop.StartThread();
  DestinationHandle destination(&loop, {qmp, [&] { return journal_path; }});
  if (!Report(destination.Prepare().status())) return 1;
  if (!Report((*journal)->Record(JournalPhase::kPreparing))) return 1;
  // The load is not begun: its stream breaks with this process, and QEMU would end by itself.
  if (last != "prepared" && !Report((*journal)->Record(JournalPhase::kLoaded))) return 1;
  if (last == "told" && !Report((*journal)->Record(JournalPhase::kRolledBack))) return 1;
  ReachedAndWait(last);
  return 1;
}

// Ended, also if nobody has collected its exit status yet.
bool Ended(pid_t pid) {
  auto status = ReadTextFile(fmt::format("/proc/{}/status", pid));
  return !status.ok() || status->find("State:\tZ") != std::string::npos;
}

class GuardianTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    std::string pattern = "/dev/shm/faultline-guardian-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    journal_ = directory_ + "/journal";
  }
  void TearDown() override {
    KillChild();
    std::filesystem::remove_all(directory_);
  }

  std::unique_ptr<QemuProcess> Start(QemuTestOptions options) {
    options.binary = GetParam();
    auto qemu = QemuProcess::Start(options);
    EXPECT_TRUE(qemu.ok()) << qemu.status();
    return qemu.ok() ? std::move(*qemu) : nullptr;
  }

  // Runs this program as `side` ("migrate", "receive") until it says that it reached `step`.
  void RunUpTo(const std::string& side, const std::string& step, const std::string& qmp) {
    int pipe_fds[2];
    ASSERT_EQ(pipe2(pipe_fds, O_CLOEXEC), 0);
    output_ = FileDescriptor(pipe_fds[0]);
    FileDescriptor child_output(pipe_fds[1]);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, child_output.get(), STDOUT_FILENO);
    std::string words[] = {"guardian_test", side, step, qmp, journal_};
    char* arguments[] = {words[0].data(), words[1].data(), words[2].data(),
                         words[3].data(), words[4].data(), nullptr};
    ASSERT_EQ(posix_spawn(&child_, "/proc/self/exe", &actions, nullptr, arguments, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
  }
  std::string ReadLine() {
    std::string line;
    pollfd ready{output_.get(), POLLIN, 0};
    char letter = 0;
    while (poll(&ready, 1, 10000) == 1 && read(output_.get(), &letter, 1) == 1 && letter != '\n') {
      line += letter;
    }
    return line;
  }
  void KillChild() {
    if (child_ <= 0) return;
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
    child_ = -1;
  }
  // The guardian's own record: a VM may also start by itself when its migration breaks.
  void WaitForRolledBack() {
    for (int i = 0; i < 2500; ++i) {
      auto phase = ReadJournalPhase(journal_);
      if (phase.ok() && *phase == JournalPhase::kRolledBack) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }
  static bool WaitForEnd(pid_t process) {
    for (int i = 0; i < 300 && !Ended(process); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return Ended(process);
  }
  // A thread may end while they are looked through.
  static std::vector<pid_t> ChildrenOf(pid_t process) {
    std::vector<pid_t> children;
    for (const auto& task :
         std::filesystem::directory_iterator(fmt::format("/proc/{}/task", process))) {
      std::ifstream text(task.path() / "children");
      for (pid_t pid = -1; text >> pid;) children.push_back(pid);
    }
    return children;
  }
  // The guardian is the child's only child.
  pid_t GuardianPid() const {
    const std::vector<pid_t> children = ChildrenOf(child_);
    return children.empty() ? -1 : children.front();
  }

  std::string directory_;
  std::string journal_;
  FileDescriptor output_;
  pid_t child_ = -1;
};

TEST_P(GuardianTest, VmRunsOnAfterDeathAtAnyStepBeforeCommit) {
  auto qemu = Start({});
  ASSERT_NE(qemu, nullptr);
  Inspector inspector(*qemu);
  for (const char* step : {"prepared", "paused", "freezing", "frozen", "saving", "saved"}) {
    SCOPED_TRACE(step);
    RunUpTo("migrate", step, qemu->qmp_path());
    ASSERT_EQ(ReadLine(), step);
    auto killed_at = std::chrono::steady_clock::now();
    KillChild();
    WaitForRolledBack();
    EXPECT_LT(std::chrono::steady_clock::now() - killed_at, std::chrono::seconds(2));
    EXPECT_EQ(WaitForVmStatus(&inspector, "running"), "running");
    EXPECT_FALSE(inspector.Capability("x-ignore-shared"));
    unlink(journal_.c_str());
  }
}

// It is wherever that migration has brought it.
TEST_P(GuardianTest, AVmThatSomebodyElseMovedInAPauseIsNotLetRun) {
  auto qemu = Start({});
  ASSERT_NE(qemu, nullptr);
  Inspector inspector(*qemu);
  RunUpTo("migrate", "paused", qemu->qmp_path());
  ASSERT_EQ(ReadLine(), "paused");
  const Json off = {{"capability", "pause-before-switchover"}, {"state", false}};
  inspector.Execute("migrate-set-capabilities", {{"capabilities", Json::array({off})}});
  inspector.Execute("migrate", {{"uri", "exec:cat > /dev/null"}});
  ASSERT_EQ(WaitForVmStatus(&inspector, "postmigrate"), "postmigrate");
  pid_t guardian = GuardianPid();
  ASSERT_GT(guardian, 0);
  KillChild();
  EXPECT_TRUE(WaitForEnd(guardian));
  EXPECT_EQ(inspector.Status(), "postmigrate");
  auto phase = ReadJournalPhase(journal_);
  ASSERT_TRUE(phase.ok()) << phase.status();
  EXPECT_NE(*phase, JournalPhase::kRolledBack);
}

TEST_P(GuardianTest, PausedVmStaysPaused) {
  auto qemu = Start({});
  ASSERT_NE(qemu, nullptr);
  Inspector inspector(*qemu);
  inspector.Execute("stop");
  RunUpTo("migrate", "frozen", qemu->qmp_path());
  ASSERT_EQ(ReadLine(), "frozen");
  KillChild();
  WaitForRolledBack();
  EXPECT_NE(inspector.Status(), "finish-migrate");
  EXPECT_FALSE(JsonFlag(inspector.Execute("query-status"), "running"));
}

TEST_P(GuardianTest, CommittedVmIsLeftAlone) {
  auto qemu = Start({});
  ASSERT_NE(qemu, nullptr);
  Inspector inspector(*qemu);
  RunUpTo("migrate", "committed", qemu->qmp_path());
  ASSERT_EQ(ReadLine(), "committed");
  pid_t guardian = GuardianPid();
  ASSERT_GT(guardian, 0);
  KillChild();
  EXPECT_TRUE(WaitForEnd(guardian));
  EXPECT_EQ(inspector.Status(), "postmigrate");
  EXPECT_EQ(ReadJournalPhase(journal_).value_or(JournalPhase::kPreparing),
            JournalPhase::kCommitted);
}

TEST_P(GuardianTest, NoGuardianIsLeftAfterRetireOrRollback) {
  for (const char* step : {"retired", "rolled-back"}) {
    SCOPED_TRACE(step);
    auto qemu = Start({});
    ASSERT_NE(qemu, nullptr);
    Inspector inspector(*qemu);
    RunUpTo("migrate", step, qemu->qmp_path());
    ASSERT_EQ(ReadLine(), step);
    EXPECT_EQ(GuardianPid(), -1);
    KillChild();
    EXPECT_EQ(inspector.Status(), std::string(step) == "retired" ? "postmigrate" : "running");
    unlink(journal_.c_str());
  }
}

TEST_P(GuardianTest, LostGuardianFailsTheMigrationBeforeCommit) {
  auto qemu = Start({});
  ASSERT_NE(qemu, nullptr);
  RunUpTo("migrate", "freezing", qemu->qmp_path());
  ASSERT_EQ(ReadLine(), "freezing");
  KillChild();
  unlink(journal_.c_str());
  Inspector inspector(*qemu);
  ASSERT_EQ(WaitForVmStatus(&inspector, "running"), "running");
  Loop loop("control");
  loop.StartThread();
  auto journal = FileJournal::Create(directory_ + "/own", directory_, kId, "source");
  ASSERT_TRUE(journal.ok());
  // The guardian of a driver in this very process, so that the test can end it.
  SourceHandle source(&loop, {qemu->qmp_path(), directory_ + "/own"});
  auto vm = source.Prepare();
  for (int i = 0; i < 200 && !vm.ok(); ++i) {  // the last guardian may still hold the monitor
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    vm = source.Prepare();
  }
  ASSERT_TRUE(vm.ok()) << vm.status();
  ASSERT_TRUE(source.Freeze().ok());
  ASSERT_TRUE(source.SaveDevices().ok());
  EXPECT_TRUE(source.MayHandOver().ok());
  // Its guardian, and what may be left of the last one, which has no parent any more but this test.
  std::vector<pid_t> guardians = ChildrenOf(getpid());
  std::erase(guardians, qemu->pid());
  ASSERT_FALSE(guardians.empty());
  for (pid_t guardian : guardians) kill(guardian, SIGKILL);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  absl::Status may = source.MayHandOver();
  EXPECT_NE(MessageOf(may).find("guardian process has died"), std::string::npos) << may;
  absl::Status back = source.Rollback();
  EXPECT_TRUE(back.ok()) << back;
  EXPECT_EQ(inspector.Status(), "running");
}

TEST_P(GuardianTest, DestinationThatWasNotLoadedIsEnded) {
  auto qemu = Start({.incoming = true});
  ASSERT_NE(qemu, nullptr);
  RunUpTo("receive", "prepared", qemu->qmp_path());
  ASSERT_EQ(ReadLine(), "prepared");
  EXPECT_TRUE(qemu->running());
  KillChild();
  EXPECT_TRUE(qemu->WaitForEnd(2000));
}

TEST_P(GuardianTest, DestinationThatWasLoadedIsLeftAlone) {
  auto qemu = Start({.incoming = true});
  ASSERT_NE(qemu, nullptr);
  RunUpTo("receive", "loaded", qemu->qmp_path());
  ASSERT_EQ(ReadLine(), "loaded");
  pid_t guardian = GuardianPid();
  ASSERT_GT(guardian, 0);
  KillChild();
  EXPECT_TRUE(WaitForEnd(guardian));
  EXPECT_TRUE(qemu->running());
}

TEST_P(GuardianTest, DestinationWhoseVmStayedWithTheSourceIsEnded) {
  auto qemu = Start({.incoming = true});
  ASSERT_NE(qemu, nullptr);
  RunUpTo("receive", "told", qemu->qmp_path());
  ASSERT_EQ(ReadLine(), "told");
  KillChild();
  EXPECT_TRUE(qemu->WaitForEnd(2000));
}

TEST(GuardianStart, ByHandIsRefused) {
  EXPECT_TRUE(absl::IsInvalidArgument(RunGuardian({})));
  EXPECT_TRUE(absl::IsInvalidArgument(RunGuardian({"source"})));
}

TEST(GuardianStart, MissingJournalFailsTheStart) {
  auto pair = MakeSocketPair();
  ASSERT_TRUE(pair.ok());
  Guardian::Setup setup;
  setup.journal_path = "/dev/shm/faultline-no-such-journal";
  setup.monitor = pair->first.get();
  auto guardian = Guardian::Spawn(setup);
  EXPECT_FALSE(guardian.ok() && (*guardian)->AwaitReady().ok());
}

INSTANTIATE_TEST_SUITE_P(Qemu, GuardianTest, testing::ValuesIn(QemuBinaries()),
                         [](const auto& instance) {
                           return instance.index == 0 ? "System" : "Newer";
                         });

}  // namespace
}  // namespace faultline

int main(int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  if (!words.empty() && words[0] == "guardian") {
    absl::Status status = faultline::RunGuardian({words.begin() + 1, words.end()});
    if (!status.ok()) fmt::print(stderr, "{}\n", faultline::MessageOf(status));
    return status.ok() ? 0 : 1;
  }
  if (words.size() == 4 && words[0] == "migrate") {
    return faultline::MigrateUpTo(words[1], words[2], words[3]);
  }
  if (words.size() == 4 && words[0] == "receive") {
    return faultline::ReceiveUpTo(words[1], words[2], words[3]);
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
