// A source's VM that somebody lets run by hand, before, in and after its handover.
#include <gtest/gtest.h>

#include "vmm/qemu/driver_fixture.h"
#include "vmm/qemu/resumed_source_vmm.h"

namespace faultline {
namespace {

// A VM that QEMU has saved, and that somebody may let run again.
class QemuDriversLetRun : public testing::TestWithParam<std::string> {
 protected:
  QemuDriversLetRun() : loop_("control") { loop_.StartThread(); }

  void Save(FreezePoint point) {
    source_.reset();
    inspector_.reset();
    auto qemu = QemuProcess::Start({.binary = GetParam()});
    ASSERT_TRUE(qemu.ok()) << qemu.status();
    qemu_ = std::move(*qemu);
    inspector_ = std::make_unique<Inspector>(*qemu_);
    source_ = std::make_unique<SourceHandle>(&loop_, QemuSourceOptions{qemu_->qmp_path(), ""});
    ASSERT_TRUE(source_->Prepare().ok());
    ASSERT_TRUE(source_->Freeze(point).ok());
    if (point == FreezePoint::kDrained) {
      ASSERT_TRUE(source_->SaveDevices().ok());
    }
    // Before that QEMU refuses a 'cont'.
    ASSERT_EQ(WaitForVmStatus(inspector_.get(), "postmigrate"), "postmigrate");
  }
  void LetRun() {
    inspector_->Execute("cont");
    ASSERT_EQ(inspector_->Status(), "running");
  }
  void MustBeFoundOut(const absl::Status& status) {
    EXPECT_TRUE(absl::IsAborted(status)) << status;
    EXPECT_NE(MessageOf(status).find("somebody else let the VM run"), std::string::npos) << status;
    ASSERT_TRUE(source_->Rollback().ok());
    EXPECT_EQ(inspector_->Status(), "running");
  }
  void TearDown() override { source_.reset(); }

  Loop loop_;
  std::unique_ptr<QemuProcess> qemu_;
  std::unique_ptr<Inspector> inspector_;
  std::unique_ptr<SourceHandle> source_;
};

// Also one that was stopped again: its memory is newer than its devices' state.
TEST_P(QemuDriversLetRun, AfterItsSaveItIsNotHandedOver) {
  for (bool stopped_again : {false, true}) {
    SCOPED_TRACE(stopped_again);
    ASSERT_NO_FATAL_FAILURE(Save(FreezePoint::kSaving));
    ASSERT_NO_FATAL_FAILURE(LetRun());
    if (stopped_again) inspector_->Execute("stop");
    MustBeFoundOut(source_->SaveDevices());
  }
}

TEST_P(QemuDriversLetRun, JustBeforeTheHandoverItIsNotHandedOver) {
  for (FreezePoint point : {FreezePoint::kDrained, FreezePoint::kSaving}) {
    ASSERT_NO_FATAL_FAILURE(Save(point));
    if (point == FreezePoint::kSaving) {
      ASSERT_TRUE(source_->SaveDevices().ok());
    }
    EXPECT_TRUE(source_->MayHandOver().ok());
    ASSERT_NO_FATAL_FAILURE(LetRun());
    MustBeFoundOut(source_->MayHandOver());
  }
}

TEST_P(QemuDriversLetRun, AfterTheHandoverItIsKnownAtOnce) {
  ASSERT_NO_FATAL_FAILURE(Save(FreezePoint::kSaving));
  ASSERT_TRUE(source_->SaveDevices().ok());
  EXPECT_TRUE(source_->StandsStill().ok());
  ASSERT_NO_FATAL_FAILURE(LetRun());
  inspector_->Execute("stop");
  EXPECT_TRUE(absl::IsFailedPrecondition(source_->StandsStill()));
}

// Its memory is newer than what the destination has.
TEST_P(QemuDriversLetRun, AfterTheHandoverItIsNotTakenUpAgain) {
  for (const bool stopped_again : {false, true}) {
    ASSERT_NO_FATAL_FAILURE(Save(FreezePoint::kSaving));
    ASSERT_NO_FATAL_FAILURE(LetRun());
    if (stopped_again) inspector_->Execute("stop");
    source_.reset();
    std::unique_ptr<ResumedSourceVmm> resumed;
    RunOn(&loop_, [&] {
      resumed = std::make_unique<ResumedSourceVmm>(qemu_->qmp_path(), std::vector<KeptRegion>(),
                                                   nullptr, &loop_);
    });
    const auto vm = Begin<absl::StatusOr<VmDescription>>(&loop_, [&](auto done) {
                      resumed->Prepare(done);
                    }).get();
    EXPECT_NE(MessageOf(vm.status()).find("no longer what the destination needs"),
              std::string::npos)
        << vm.status();
    RunOn(&loop_, [&] { resumed.reset(); });
  }
}

std::string NameOf(const testing::TestParamInfo<std::string>& info) {
  return info.index == 0 ? "System" : "Newer";
}
INSTANTIATE_TEST_SUITE_P(Qemu, QemuDriversLetRun, testing::ValuesIn(QemuBinaries()), NameOf);

}  // namespace
}  // namespace faultline
