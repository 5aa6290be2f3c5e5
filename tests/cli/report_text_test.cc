#include "cli/report_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace faultline {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

ProgressSnapshot At(uint64_t elapsed_us, uint64_t missing, uint64_t bytes_wire) {
  ProgressSnapshot snapshot;
  snapshot.phase = Phase::kPostCopy;
  snapshot.pages_total = 1000;
  snapshot.pages_missing = missing;
  snapshot.bytes_wire = bytes_wire;
  snapshot.faults = 1234567;
  snapshot.elapsed_us = elapsed_us;
  snapshot.post_copy_us = elapsed_us;
  return snapshot;
}

TEST(ReportTextTest, FiguresForPeople) {
  EXPECT_EQ(FormatDuration(38), "38 us");
  EXPECT_EQ(FormatDuration(12345), "12.3 ms");
  EXPECT_EQ(FormatDuration(5320000), "5.32 s");
  EXPECT_EQ(FormatDuration(185000000), "3 min 05 s");
  EXPECT_EQ(FormatCount(0), "0");
  EXPECT_EQ(FormatCount(999), "999");
  EXPECT_EQ(FormatCount(1234567), "1,234,567");
  EXPECT_EQ(FormatCount(100000), "100,000");
}

TEST(ReportTextTest, ProgressLineHasShareRateFaultsAndTimeLeft) {
  ProgressEstimator estimator;
  estimator.Add(At(1'000'000, 800, 0));
  EXPECT_THAT(ProgressLine(At(1'000'000, 800, 0), estimator), Not(HasSubstr("ETA")));
  estimator.Add(At(2'000'000, 600, 1 << 20));
  EXPECT_EQ(ProgressLine(At(2'000'000, 600, 1 << 20), estimator),
            "post-copy  40.0% present  1.0 MiB/s  1,234,567 faults  ETA 3.00 s");
}

TEST(ReportTextTest, TheRateFollowsTheLastSeconds) {
  ProgressEstimator estimator;
  for (uint64_t s = 1; s <= 10; ++s) estimator.Add(At(s * 1'000'000, 1000 - s, s * 1000));
  for (uint64_t s = 11; s <= 14; ++s) {
    estimator.Add(At(s * 1'000'000, 1000 - s, 10000 + (s - 10) * 5000));
  }
  EXPECT_EQ(estimator.bytes_per_second(), 5000u);
}

TEST(ReportTextTest, NothingIsPromisedWhileNothingMoves) {
  ProgressEstimator estimator;
  EXPECT_EQ(estimator.bytes_per_second(), std::nullopt);
  estimator.Add(At(1'000'000, 500, 10));
  estimator.Add(At(2'000'000, 500, 10));
  EXPECT_EQ(estimator.bytes_per_second(), 0u);
  EXPECT_EQ(estimator.remaining_us(), std::nullopt);
}

TEST(ReportTextTest, ALostConnectionIsSeen) {
  ProgressSnapshot lost = At(3'000'000, 600, 1 << 20);
  lost.phase = Phase::kReconnecting;
  ProgressEstimator estimator;
  estimator.Add(At(2'000'000, 700, 1 << 20));
  estimator.Add(lost);
  EXPECT_EQ(ProgressLine(lost, estimator), "reconnecting  40.0% present  1,234,567 faults  3.00 s");
  Outcome outcome;
  outcome.result.last.reconnects = 1;
  EXPECT_THAT(Summary(outcome), HasSubstr("lost and made again once"));
  outcome.result.last.reconnects = 3;
  EXPECT_THAT(Summary(outcome), HasSubstr("lost and made again 3 times"));
}

TEST(ReportTextTest, PagesThatChangedOnTheirWayAreTold) {
  Outcome outcome;
  EXPECT_THAT(Summary(outcome), Not(HasSubstr("changed on their way")));
  outcome.result.last.mismatches = 2;
  EXPECT_THAT(Summary(outcome), HasSubstr("2 times pages changed on their way"));
  EXPECT_THAT(Summary(outcome), HasSubstr("memory of both hosts"));
}

TEST(ReportTextTest, RailsAreToldWhereThereAreSeveral) {
  Outcome outcome;
  outcome.result.rails = {{"192.0.2.7:4444", 12 << 20}};
  EXPECT_THAT(Summary(outcome), Not(HasSubstr("192.0.2.7"))) << "one is nothing new";
  outcome.result.rails.push_back({"198.51.100.7:4444", 34 << 20});
  EXPECT_THAT(Summary(outcome), HasSubstr("12.0 MiB of it pushed by RDMA on 192.0.2.7:4444"));
  EXPECT_THAT(Summary(outcome), HasSubstr("34.0 MiB of it pushed by RDMA on 198.51.100.7:4444"));
  EXPECT_THAT(Summary(outcome), Not(HasSubstr("WRITEs")));
}

TEST(ReportTextTest, WhatTheSourceWroteIsToldAlsoOfOneRail) {
  Outcome outcome;
  outcome.result.rails = {{"192.0.2.7:4444", 12 << 20, 11 << 20}};
  EXPECT_THAT(Summary(outcome), HasSubstr("12.0 MiB of it pushed by RDMA on 192.0.2.7:4444, 11.0 "
                                          "MiB of that by WRITEs"));
}

TEST(ReportTextTest, HugePagesAreToldWhereTheyWereAskedFor) {
  Outcome outcome;
  EXPECT_THAT(Summary(outcome), Not(HasSubstr("huge")));
  outcome.result.huge_pages = {.bytes = 618 << 20, .elapsed_us = 1'800'000};
  EXPECT_THAT(Summary(outcome), HasSubstr("618.0 MiB of it became huge pages again in 1.80 s"));
  outcome.result.huge_pages->cut_short = true;
  EXPECT_THAT(Summary(outcome), HasSubstr("in 1.80 s, cut short"));
}

TEST(ReportTextTest, AFailureSaysWhoseTheVmIs) {
  Outcome outcome;
  outcome.result.status = absl::UnavailableError("gone");
  for (Role role : {Role::kSource, Role::kDestination}) {
    outcome.role = role;
    outcome.result.owner = VmOwner::kSource;
    EXPECT_THAT(FailureText(outcome), HasSubstr("The VM is the source's"));
    outcome.result.owner = VmOwner::kDestination;
    EXPECT_THAT(FailureText(outcome), HasSubstr("The VM is the destination's"));
    EXPECT_THAT(FailureText(outcome), HasSubstr("paused"));
    EXPECT_THAT(FailureText(outcome), HasSubstr("--resume"));
  }
  outcome.result.owner = VmOwner::kUndecided;
  EXPECT_THAT(FailureText(outcome), HasSubstr("does not know"));
}

}  // namespace
}  // namespace faultline
