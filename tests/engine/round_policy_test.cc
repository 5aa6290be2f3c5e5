// When to switch, on what guests did: bytes that each round sent, how long it took, what was left.
#include "engine/round_policy.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace faultline {
namespace {

constexpr uint64_t kMiB = 1 << 20;

struct Round {
  uint64_t sent_mib = 0;
  int64_t sent_ms = 0;
  uint64_t left_mib = 0;
  uint64_t hot_mib = 0;  // written all the time, and put off
};

// What ends it, and after which round; "goes on" if nothing does.
std::string EndOf(MigrationMode mode, const PreCopyBudgets& budgets,
                  const std::vector<Round>& trace) {
  RoundPolicy policy(mode, budgets);
  int64_t elapsed_us = 0;
  for (uint32_t round = 1; round <= trace.size(); ++round) {
    const Round& one = trace[round - 1];
    elapsed_us += one.sent_ms * 1000;
    const auto reason = policy.Decide({.round = round,
                                       .ended = true,
                                       .elapsed_us = elapsed_us,
                                       .sent_bytes = one.sent_mib * kMiB,
                                       .sent_us = one.sent_ms * 1000,
                                       .again_bytes = one.left_mib * kMiB,
                                       .left_bytes = one.left_mib * kMiB,
                                       .missing_bytes = (one.left_mib + one.hot_mib) * kMiB});
    if (reason.has_value())
      return SwitchReasonName(*reason) + std::string(" ") + std::to_string(round);
  }
  return "goes on";
}

// At 1 Gbit/s, 512 MiB touched.
const std::vector<Round> kReadMostly = {{512, 4500, 14}, {14, 125, 3}, {3, 27, 0}};
const std::vector<Round> kZipf = {
    {512, 4500, 180}, {180, 1580, 110}, {110, 960, 85}, {85, 750, 80}};
const std::vector<Round> kWriteHeavy = {
    {512, 4500, 500}, {500, 4400, 498}, {498, 4400, 499}, {499, 4400, 498}, {498, 4400, 500}};

TEST(RoundPolicyTest, HybridSwitchesAsSoonAsAnotherRoundWouldNotPay) {
  EXPECT_EQ(EndOf(MigrationMode::kHybrid, {}, kReadMostly), "converged 3");
  EXPECT_EQ(EndOf(MigrationMode::kHybrid, {}, kZipf), "no-gain 4");
  EXPECT_EQ(EndOf(MigrationMode::kHybrid, {}, kWriteHeavy), "no-gain 1");
}

TEST(RoundPolicyTest, HybridGoesOnAsLongAsARoundBringsSomethingOfWhatIsMissing) {
  const std::vector<Round> shrinking = {{512, 4700, 190, 30}, {190, 1640, 100, 45},
                                        {100, 860, 50, 55},   {50, 430, 20, 60},
                                        {20, 170, 8, 60},     {8, 70, 4, 60}};
  EXPECT_EQ(EndOf(MigrationMode::kHybrid, {}, shrinking), "no-gain 4");
  const std::vector<Round> hardly = {{512, 4700, 190, 30}, {190, 1640, 170, 45}};
  EXPECT_EQ(EndOf(MigrationMode::kHybrid, {}, hardly), "no-gain 2");
}

// Else memory would travel several times, for a little less to wait for.
TEST(RoundPolicyTest, HybridSendsNoMoreInLaterRoundsThanInTheFirst) {
  const std::vector<Round> slowly = {
      {512, 4700, 220}, {220, 1900, 180}, {180, 1540, 150}, {150, 1290, 120}};
  EXPECT_EQ(EndOf(MigrationMode::kHybrid, {}, slowly), "no-gain 3");
}

TEST(RoundPolicyTest, PreCopyWaitsUntilTheRestFitsItsBudgetOrNeverWill) {
  EXPECT_EQ(EndOf(MigrationMode::kPreCopy, {}, kReadMostly), "converged 1");
  EXPECT_EQ(EndOf(MigrationMode::kPreCopy, {.downtime_max_us = 50'000}, kReadMostly),
            "converged 2");
  EXPECT_EQ(EndOf(MigrationMode::kPreCopy, {.downtime_max_us = 800'000}, kZipf), "converged 3");
  EXPECT_EQ(EndOf(MigrationMode::kPreCopy, {}, kZipf), "goes on");
  EXPECT_EQ(EndOf(MigrationMode::kPreCopy, {}, kWriteHeavy), "not-converging 4");
}

// A VM that can be slowed is slowed for as long as that can be done; only then it is given up.
TEST(RoundPolicyTest, PreCopySlowsTheVmBeforeItGivesUp) {
  RoundPolicy policy(MigrationMode::kPreCopy, {.throttle = true});
  RoundFacts facts{.elapsed_us = 1,
                   .sent_bytes = 512 * kMiB,
                   .sent_us = 4'500'000,
                   .left_bytes = 500 * kMiB,
                   .can_slow = true};
  EXPECT_EQ(policy.Decide(facts), std::nullopt);
  EXPECT_FALSE(policy.wants_slower()) << "less is left than before the first round";
  for (int round = 0; round < 8; ++round) {
    EXPECT_EQ(policy.Decide(facts), std::nullopt);
    EXPECT_TRUE(policy.wants_slower());
  }
  facts.left_bytes = 300 * kMiB;
  EXPECT_EQ(policy.Decide(facts), std::nullopt);
  EXPECT_FALSE(policy.wants_slower()) << "it shrinks";
  facts.can_slow = false;
  EXPECT_EQ(policy.Decide(facts), std::nullopt);
  EXPECT_EQ(policy.Decide(facts), std::nullopt);
  EXPECT_FALSE(policy.wants_slower());
  EXPECT_EQ(policy.Decide(facts), SwitchReason::kNotConverging);
}

TEST(RoundPolicyTest, BudgetsEndWhatWouldGoOn) {
  EXPECT_EQ(EndOf(MigrationMode::kPreCopy, {.rounds_max = 3}, kZipf), "rounds 3");
  EXPECT_EQ(EndOf(MigrationMode::kPreCopy, {.time_max_us = 6'000'000}, kZipf), "time 2");
  EXPECT_EQ(EndOf(MigrationMode::kHybrid, {.rounds_max = 1}, kZipf), "rounds 1");
}

TEST(RoundPolicyTest, NothingLeftIsTheEndInBothModes) {
  for (MigrationMode mode : {MigrationMode::kHybrid, MigrationMode::kPreCopy}) {
    EXPECT_EQ(EndOf(mode, {}, {{512, 4500, 0}}), "converged 1");
    EXPECT_EQ(EndOf(mode, {}, {{0, 0, 0}}), "converged 1") << "a VM without memory";
  }
}

// A guest that writes all of what is sent, faster than it is sent.
TEST(RoundPolicyTest, HybridBreaksARoundOffThatIsWrittenAgainAsItIsSent) {
  RoundPolicy policy(MigrationMode::kHybrid, {});
  RoundFacts facts{.round = 0, .ended = false, .elapsed_us = 500'000, .sent_us = 500'000};
  facts.left_bytes = 400 * kMiB;
  facts.sent_bytes = 10 * kMiB;
  facts.again_bytes = 10 * kMiB;
  EXPECT_EQ(policy.Decide(facts), std::nullopt) << "too early to tell";
  facts.sent_bytes = 60 * kMiB;
  facts.again_bytes = 29 * kMiB;
  EXPECT_EQ(policy.Decide(facts), std::nullopt);
  facts.again_bytes = 31 * kMiB;
  EXPECT_EQ(policy.Decide(facts), SwitchReason::kNoGain);
  RoundPolicy patient(MigrationMode::kPreCopy, {});
  EXPECT_EQ(patient.Decide(facts), std::nullopt);
}

TEST(RoundPolicyTest, TimeEndsARoundInItsMiddleRoundsDoNot) {
  RoundPolicy policy(MigrationMode::kPreCopy, {.rounds_max = 1, .time_max_us = 1000});
  RoundFacts facts{.round = 5, .ended = false, .elapsed_us = 999, .left_bytes = kMiB};
  EXPECT_EQ(policy.Decide(facts), std::nullopt);
  facts.elapsed_us = 1000;
  EXPECT_EQ(policy.Decide(facts), SwitchReason::kTime);
}

}  // namespace
}  // namespace faultline
