// A save of the devices that fails, or hangs, inside QEMU: the object dbus-vmstate asks a message
// bus for state while it is saved, and the bus is the test's.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "vmm/qemu/driver_fixture.h"

namespace faultline {
namespace {

// A message bus that never outlives the test.
class StateBus {
 public:
  StateBus() {
    char name[] = "/tmp/faultline-bus-XXXXXX";
    directory_ = mkdtemp(name);
    const std::string config = directory_ / "config";
    std::ofstream(config) << "<busconfig><listen>" << address() << "</listen><auth>EXTERNAL</auth>"
                          << R"(<policy context="default"><allow send_destination="*"/>)"
                          << R"(<allow receive_sender="*"/></policy></busconfig>)";
    const std::string config_word = "--config-file=" + config;
    const pid_t parent = getpid();
    pid_ = fork();
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (getppid() != parent) _exit(127);
      const int nowhere = open("/dev/null", O_WRONLY);
      dup2(nowhere, STDERR_FILENO);
      execlp("dbus-daemon", "dbus-daemon", config_word.c_str(), "--nofork", "--nopidfile", nullptr);
      _exit(127);
    }
  }
  ~StateBus() {
    End();
    std::error_code error;
    std::filesystem::remove_all(directory_, error);
  }

  // What QEMU gets to hear. The bus must be listening by then.
  std::vector<std::string> QemuWords() const {
    for (int i = 0; i < 500 && !std::filesystem::exists(socket()); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    EXPECT_TRUE(std::filesystem::exists(socket())) << "is dbus-daemon installed?";
    return {"-object", "dbus-vmstate,id=state,addr=" + address()};
  }
  // From now on QEMU waits for its answers, at most 25 seconds for each.
  void Hang() { kill(pid_, SIGSTOP); }
  void GoOn() { kill(pid_, SIGCONT); }
  // From now on every save fails.
  void End() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

 private:
  std::filesystem::path socket() const { return directory_ / "bus"; }
  std::string address() const { return "unix:path=" + socket().string(); }

  std::filesystem::path directory_;
  pid_t pid_ = -1;
};

class FailingSave : public testing::TestWithParam<std::string> {
 protected:
  FailingSave() : loop_("control") { loop_.StartThread(); }

  void SetUp() override {
    QemuTestOptions options;
    options.binary = GetParam();
    options.extra_arguments = bus_.QemuWords();
    auto qemu = QemuProcess::Start(options);
    ASSERT_TRUE(qemu.ok()) << qemu.status();
    qemu_ = std::move(*qemu);
    inspector_ = std::make_unique<Inspector>(*qemu_);
    source_ = std::make_unique<SourceHandle>(&loop_, QemuSourceOptions{qemu_->qmp_path(), ""});
    ASSERT_TRUE(source_->Prepare().ok());
  }
  void TearDown() override { source_.reset(); }

  void MustSayWhy(const absl::Status& status) {
    EXPECT_TRUE(absl::IsAborted(status)) << status;
    EXPECT_NE(MessageOf(status).find("saving of the VM's devices ended as 'failed'"),
              std::string::npos)
        << status;
  }
  void MustRunAgain() {
    const absl::Status back = source_->Rollback();
    EXPECT_TRUE(back.ok()) << back;
    EXPECT_EQ(inspector_->Status(), "running");
    EXPECT_FALSE(inspector_->Capability("x-ignore-shared"));
  }

  Loop loop_;
  StateBus bus_;
  std::unique_ptr<QemuProcess> qemu_;
  std::unique_ptr<Inspector> inspector_;
  std::unique_ptr<SourceHandle> source_;
};

TEST_P(FailingSave, AfterThePauseItIsSaidAndTheVmRunsAgain) {
  ASSERT_TRUE(source_->Freeze(FreezePoint::kDrained).ok());
  bus_.End();
  MustSayWhy(source_->SaveDevices());
  MustRunAgain();
}

TEST_P(FailingSave, WithoutAPauseItIsSaidAndTheVmRunsAgain) {
  bus_.End();
  const auto vm = source_->Freeze(FreezePoint::kSaving);
  EXPECT_TRUE(vm.ok()) << vm.status();
  MustSayWhy(source_->SaveDevices());
  MustRunAgain();
}

// Whoever looks at the VM's memory need not wait for its devices.
TEST_P(FailingSave, TheVmIsFrozenWhileTheSaveHangs) {
  bus_.Hang();
  const auto vm = source_->Freeze(FreezePoint::kSaving);
  ASSERT_TRUE(vm.ok()) << vm.status();
  EXPECT_TRUE(vm->running);
  EXPECT_GT(vm->stopped_at_ns, 0);
  EXPECT_GT(source_->device_state().size(), 0u);  // memory that is not shared
  auto saved = source_->BeginSaveDevices();
  EXPECT_EQ(saved.wait_for(std::chrono::milliseconds(700)), std::future_status::timeout);
  bus_.GoOn();
  const absl::Status status = saved.get();
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_GT(source_->device_state().size(), 10000u);
  MustRunAgain();
}

// QEMU answers nobody while it hangs there.
TEST_P(FailingSave, ARollbackWaitsForOneThatHangs) {
  bus_.Hang();
  ASSERT_TRUE(source_->Freeze(FreezePoint::kSaving).ok());
  auto saved = source_->BeginSaveDevices();
  EXPECT_EQ(saved.wait_for(std::chrono::milliseconds(300)), std::future_status::timeout);
  std::thread later([this] {
    std::this_thread::sleep_for(std::chrono::milliseconds(1500));
    bus_.GoOn();
  });
  MustRunAgain();
  later.join();
  EXPECT_TRUE(absl::IsCancelled(saved.get()));
}

std::string NameOf(const testing::TestParamInfo<std::string>& info) {
  return info.index == 0 ? "System" : "Newer";
}
INSTANTIATE_TEST_SUITE_P(Qemu, FailingSave, testing::ValuesIn(QemuBinaries()), NameOf);

}  // namespace
}  // namespace faultline
