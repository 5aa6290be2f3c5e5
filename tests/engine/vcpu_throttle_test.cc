#include "engine/vcpu_throttle.h"

#include <gtest/gtest.h>

#include <optional>

#include "fakes/fake_vmm.h"
#include "fakes/manual_executor.h"

namespace faultline {
namespace {

class VcpuThrottleTest : public testing::Test {
 protected:
  VcpuThrottleTest() {
    vm_.on_change = [this] { Count(); };
    throttle_.emplace(&vmm_, &executor_, [this](absl::Status status) { failure_ = status; });
    On([this] { vmm_.Prepare([](absl::StatusOr<VmDescription>) {}); });
    clock_.AdvanceBy(10'000);
  }

  static VmDescription Running() {
    VmDescription vm;
    vm.running = true;
    return vm;
  }
  void On(Task task) {
    executor_.Post(std::move(task));
    clock_.RunUntilIdle();
  }
  void Count() {
    if (runs_) ran_ns_ += clock_.now_ns() - changed_ns_;
    runs_ = vm_.runs_on_source;
    changed_ns_ = clock_.now_ns();
  }
  // The share of the next `duration_us` in which the VM stands.
  double ShareStopped(int64_t duration_us) {
    Count();
    const int64_t ran_before_ns = ran_ns_;
    clock_.AdvanceBy(duration_us);
    Count();
    return 1 -
           static_cast<double>(ran_ns_ - ran_before_ns) / 1000 / static_cast<double>(duration_us);
  }
  absl::Status Stop() {
    std::optional<absl::Status> stopped;
    On([&] { throttle_->Stop([&](const absl::Status& status) { stopped = status; }); });
    clock_.RunUntil([&] { return stopped.has_value(); });
    return stopped.value_or(absl::UnknownError("never called"));
  }

  ManualClock clock_;
  ManualExecutor executor_{&clock_};
  FakeVm vm_;
  FakeSourceVmm vmm_{&executor_, &vm_, Running()};
  std::optional<VcpuThrottle> throttle_;
  absl::Status failure_;
  bool runs_ = true;
  int64_t changed_ns_ = 0;
  int64_t ran_ns_ = 0;
};

TEST_F(VcpuThrottleTest, StepByStepTheVmStandsStillForMoreOfTheTime) {
  EXPECT_EQ(ShareStopped(1'000'000), 0);
  for (double share : {0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.9}) {
    On([&] { throttle_->Tighten(); });
    clock_.AdvanceBy(500'000);
    EXPECT_NEAR(throttle_->share(), share, 1e-9);
    EXPECT_EQ(throttle_->at_most(), share > 0.85);
    EXPECT_NEAR(ShareStopped(10'000'000), share, 0.02);
  }
  EXPECT_TRUE(Stop().ok());
  EXPECT_EQ(ShareStopped(1'000'000), 0);
  EXPECT_GT(throttle_->paused_us(), 50'000'000);
  EXPECT_TRUE(failure_.ok());
}

// A stop that takes long (disks that are flushed) is made up for by a longer run.
TEST_F(VcpuThrottleTest, SlowStopsCountAsStandingStill) {
  vmm_.Script("Continue", {.delay_us = 30'000});
  On([&] { throttle_->Tighten(); });
  clock_.AdvanceBy(500'000);
  EXPECT_NEAR(ShareStopped(20'000'000), 0.2, 0.03);
}

TEST_F(VcpuThrottleTest, StopLetsTheVmRunFromEveryMoment) {
  for (int64_t moment_us : {0, 100, 200, 1'000, 10'000, 10'300, 20'000, 45'000}) {
    SCOPED_TRACE(moment_us);
    On([&] { throttle_->Tighten(); });
    clock_.AdvanceBy(moment_us);
    EXPECT_TRUE(Stop().ok());
    EXPECT_TRUE(vm_.runs_on_source);
    EXPECT_EQ(vmm_.under_way(), "");
    EXPECT_EQ(ShareStopped(200'000), 0);
  }
}

TEST_F(VcpuThrottleTest, WithoutAShareStopEndsAtOnce) {
  EXPECT_TRUE(Stop().ok());
  EXPECT_EQ(vmm_.CountOf("Pause"), 0u);
}

TEST_F(VcpuThrottleTest, AVmmThatFailsIsToldOnce) {
  On([&] { throttle_->Tighten(); });
  vmm_.Script("Pause", {.status = absl::UnavailableError("gone")});
  clock_.AdvanceBy(500'000);
  EXPECT_TRUE(absl::IsUnavailable(failure_)) << failure_;
  failure_ = absl::OkStatus();
  const size_t pauses = vmm_.CountOf("Pause");
  On([&] { throttle_->Tighten(); });
  clock_.AdvanceBy(500'000);
  EXPECT_EQ(vmm_.CountOf("Pause"), pauses);
  EXPECT_TRUE(failure_.ok());
}

TEST_F(VcpuThrottleTest, ARollbackEndsItAtEveryMoment) {
  for (int64_t moment_us : {0, 100, 1'000, 10'100, 20'000}) {
    SCOPED_TRACE(moment_us);
    throttle_.emplace(&vmm_, &executor_, [this](absl::Status status) { failure_ = status; });
    On([&] { throttle_->Tighten(); });
    clock_.AdvanceBy(moment_us);
    On([&] {
      vmm_.Rollback([](const absl::Status& status) { EXPECT_TRUE(status.ok()) << status; });
      throttle_.reset();
    });
    EXPECT_EQ(ShareStopped(1'000'000) < 0.05, true);
    EXPECT_TRUE(vm_.runs_on_source);
    EXPECT_EQ(vmm_.under_way(), "");
  }
}

TEST_F(VcpuThrottleTest, SomebodyElsesContinueDoesNotEndIt) {
  vmm_.Script("Continue", {.status = absl::AbortedError("somebody else")});
  On([&] { throttle_->Tighten(); });
  clock_.AdvanceBy(500'000);
  EXPECT_TRUE(failure_.ok()) << failure_;
  EXPECT_GT(vmm_.CountOf("Pause"), 3u);
}

}  // namespace
}  // namespace faultline
