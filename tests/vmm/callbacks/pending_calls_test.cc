#include "vmm/callbacks/pending_calls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "fakes/manual_executor.h"

namespace faultline {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class PendingCallsTest : public testing::Test {
 protected:
  void Post(const std::string& name) {
    calls_->Post([this, name] { log_.push_back(name); },
                 [this, name](absl::Status reason) {
                   log_.push_back(name + " cancelled: " + MessageOf(reason));
                 });
  }

  ManualClock clock_;
  ManualExecutor executor_{&clock_};
  std::vector<std::string> log_;
  std::optional<PendingCalls> calls_{&executor_};
};

TEST_F(PendingCallsTest, RunsLaterAndInOrder) {
  Post("first");
  Post("second");
  EXPECT_THAT(log_, IsEmpty());
  clock_.RunUntilIdle();
  EXPECT_THAT(log_, ElementsAre("first", "second"));
}

TEST_F(PendingCallsTest, CancelledOnceAndBeforeWhatComesNext) {
  Post("first");
  calls_->CancelAll(absl::CancelledError("stop"));
  Post("second");
  clock_.RunUntilIdle();
  EXPECT_THAT(log_, ElementsAre("first cancelled: stop", "second"));
}

TEST_F(PendingCallsTest, WhatIsHeldEndsOnlyByCancelOrForget) {
  const auto cancelled = [this](absl::Status) { log_.push_back("held cancelled"); };
  const PendingCalls::Ticket forgotten = calls_->Hold(cancelled);
  calls_->Hold(cancelled);
  calls_->Forget(forgotten);
  clock_.RunUntilIdle();
  EXPECT_THAT(log_, IsEmpty());
  calls_->CancelAll(absl::CancelledError("stop"));
  clock_.RunUntilIdle();
  EXPECT_THAT(log_, ElementsAre("held cancelled"));
}

TEST_F(PendingCallsTest, NothingRunsAfterItsDestruction) {
  Post("first");
  calls_->CancelAll(absl::CancelledError("stop"));
  Post("second");
  calls_.reset();
  clock_.RunUntilIdle();
  EXPECT_THAT(log_, IsEmpty());
}

}  // namespace
}  // namespace faultline
