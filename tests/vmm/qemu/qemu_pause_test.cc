// Pauses of a source VM around a look at its memory, on stock QEMUs, with somebody else at the
// VM's other monitor.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "vmm/qemu/driver_fixture.h"

namespace faultline {
namespace {

class QemuPause : public testing::TestWithParam<std::string> {
 protected:
  QemuPause() : loop_("control") { loop_.StartThread(); }

  void Start(std::vector<std::string> extra_arguments = {}) {
    QemuTestOptions options;
    options.binary = GetParam();
    options.extra_arguments = std::move(extra_arguments);
    somebody_.reset();
    qemu_.reset();  // two QEMUs cannot have one disk
    auto qemu = QemuProcess::Start(options);
    ASSERT_TRUE(qemu.ok()) << qemu.status();
    qemu_ = std::move(*qemu);
    somebody_ = std::make_unique<Inspector>(*qemu_);
    source_ = std::make_unique<SourceHandle>(&loop_, QemuSourceOptions{qemu_->qmp_path(), ""});
    description_ = source_->Prepare();
    ASSERT_TRUE(description_.ok()) << description_.status();
  }
  void TearDown() override { source_.reset(); }

  Loop loop_;
  std::unique_ptr<QemuProcess> qemu_;
  std::unique_ptr<Inspector> somebody_;
  std::unique_ptr<SourceHandle> source_;
  SourceHandle::Described description_ = absl::UnknownError("not asked yet");
};

TEST_P(QemuPause, SomebodyElsesContinueIsFoundOut) {
  Start();
  ASSERT_TRUE(source_->SetPaused(true).ok());
  somebody_->Execute("cont");
  absl::Status ended = source_->SetPaused(false);
  EXPECT_TRUE(absl::IsAborted(ended)) << ended;
  EXPECT_NE(MessageOf(ended).find("somebody else let the VM run"), std::string::npos) << ended;
  EXPECT_EQ(somebody_->Status(), "running");
  // Also one that was stopped again: its memory may have changed meanwhile.
  ASSERT_TRUE(source_->SetPaused(true).ok());
  somebody_->Execute("cont");
  somebody_->Execute("stop");
  EXPECT_TRUE(absl::IsAborted(source_->SetPaused(false)));
  ASSERT_TRUE(source_->Rollback().ok());
}

TEST_P(QemuPause, AVmStoppedBySomebodyElseMeanwhileStaysSo) {
  Start();
  somebody_->Execute("stop");
  ASSERT_TRUE(source_->SetPaused(true).ok());
  ASSERT_TRUE(source_->SetPaused(false).ok());
  EXPECT_EQ(somebody_->Status(), "paused");
  ASSERT_TRUE(source_->Rollback().ok());
  EXPECT_EQ(somebody_->Status(), "paused");
  somebody_->Execute("cont");
}

// Such as one whose guest sleeps or has shut down: nothing is done to it.
TEST_P(QemuPause, AVmThatNeitherRunsNorIsPausedAnyMoreIsLeftAlone) {
  Start({"-no-reboot", "-no-shutdown"});
  somebody_->Execute("system_reset");
  for (int tries = 0; tries < 500 && somebody_->Status() == "running"; ++tries) usleep(10'000);
  ASSERT_EQ(somebody_->Status(), "shutdown");
  absl::Status paused = source_->SetPaused(true);
  EXPECT_TRUE(absl::IsAborted(paused)) << paused;
  EXPECT_NE(MessageOf(paused).find("'shutdown'"), std::string::npos) << paused;
  ASSERT_TRUE(source_->Rollback().ok());
  EXPECT_EQ(somebody_->Status(), "shutdown");
}

TEST_P(QemuPause, RollbackLeavesAVmThatSomebodyStoppedAfterPrepare) {
  Start();
  ASSERT_TRUE(source_->SetPaused(true).ok());
  ASSERT_TRUE(source_->SetPaused(false).ok());
  EXPECT_EQ(somebody_->Status(), "running");
  somebody_->Execute("stop");
  ASSERT_TRUE(source_->Rollback().ok());
  EXPECT_EQ(somebody_->Status(), "paused");
}

// It is wherever that migration has brought it.
TEST_P(QemuPause, AVmThatSomebodyElseMovedInAPauseIsNotLetRun) {
  Start();
  ASSERT_TRUE(source_->SetPaused(true).ok());
  const Json off = {{"capability", "pause-before-switchover"}, {"state", false}};
  somebody_->Execute("migrate-set-capabilities", {{"capabilities", Json::array({off})}});
  somebody_->Execute("migrate", {{"uri", "exec:cat > /dev/null"}});
  ASSERT_EQ(WaitForVmStatus(somebody_.get(), "postmigrate"), "postmigrate");
  const absl::Status goes_on = source_->SetPaused(false);
  EXPECT_TRUE(absl::IsAborted(goes_on)) << goes_on;
  EXPECT_NE(MessageOf(goes_on).find("'postmigrate'"), std::string::npos) << goes_on;
  ASSERT_TRUE(source_->Rollback().ok());
  EXPECT_EQ(somebody_->Status(), "postmigrate");
}

TEST_P(QemuPause, DisksWithoutThePageCacheAreTold) {
  std::string disk = testing::TempDir() + "/faultline-pause-test.raw";
  FileDescriptor file(open(disk.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  ASSERT_EQ(ftruncate(file.get(), 1 << 20), 0);
  for (const char* cache : {"none", "writeback"}) {
    Start({"-drive", "if=virtio,format=raw,file=" + disk + ",cache=" + cache});
    EXPECT_EQ(description_->direct_io, std::string(cache) == "none");
    EXPECT_EQ(description_->untrackable, "");
    ASSERT_TRUE(source_->SetPaused(true).ok());
    ASSERT_TRUE(source_->SetPaused(false).ok());
    ASSERT_TRUE(source_->Rollback().ok());
    source_.reset();
  }
  unlink(disk.c_str());
}

std::string NameOf(const testing::TestParamInfo<std::string>& info) {
  return info.index == 0 ? "System" : "Newer";
}
INSTANTIATE_TEST_SUITE_P(Qemu, QemuPause, testing::ValuesIn(QemuBinaries()), NameOf);

}  // namespace
}  // namespace faultline
