// What the simulation itself must do: replay, find broken engines, and reach what matters.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <set>

#include "sim/campaign.h"

namespace faultline::sim {
namespace {

// Within so many seeds every canary is found.
constexpr uint64_t kCanarySeedsMax = 1000;

TEST(SimulationTest, TheSameSeedGivesTheSameTrace) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    const Outcome once = RunSeed(seed);
    const Outcome again = RunSeed(seed);
    EXPECT_EQ(once.digest, again.digest) << "seed " << seed;
    EXPECT_EQ(once.events, again.events) << "seed " << seed;
    EXPECT_EQ(once.last_events, again.last_events) << "seed " << seed;
  }
}

TEST(SimulationTest, OtherSeedsGiveOtherTraces) {
  std::set<uint64_t> digests;
  for (uint64_t seed = 1; seed <= 60; ++seed) digests.insert(RunSeed(seed).digest);
  EXPECT_EQ(digests.size(), 60u);
}

TEST(SimulationTest, AFailureReplays) {
  const CampaignResult first =
      RunCampaign({.seeds = kCanarySeedsMax, .canary = Canary::kPagesSwapped});
  ASSERT_TRUE(first.failed_seed.has_value());
  const Outcome again = RunSeed(*first.failed_seed, Canary::kPagesSwapped);
  EXPECT_EQ(again.breach, first.failure.breach);
  EXPECT_EQ(again.digest, first.failure.digest);
  const std::string text = DescribeFailure(*first.failed_seed, again);
  EXPECT_NE(text.find(fmt::format("--first {} --seeds 1", *first.failed_seed)), std::string::npos);
  EXPECT_NE(text.find(first.failure.breach), std::string::npos) << text;
  EXPECT_NE(text.find("BREACH"), std::string::npos) << text;
}

class CanaryTest : public testing::TestWithParam<Canary> {};

TEST_P(CanaryTest, IsFound) {
  const CampaignResult result = RunCampaign({.seeds = kCanarySeedsMax, .canary = GetParam()});
  EXPECT_TRUE(result.failed_seed.has_value());
}

INSTANTIATE_TEST_SUITE_P(All, CanaryTest, testing::ValuesIn(AllCanaries()), [](const auto& each) {
  std::string name = CanaryName(each.param);
  std::erase(name, '-');
  return name;
});

// A simulation that only ever saw one kind of ending would prove little.
TEST(SimulationTest, EveryKindOfEndingIsReached) {
  const CampaignResult result = RunCampaign({.seeds = 400});
  ASSERT_FALSE(result.failed_seed.has_value())
      << DescribeFailure(*result.failed_seed, result.failure);
  EXPECT_GT(result.completed, 100u);
  EXPECT_GT(result.taken_up, 15u);
  EXPECT_GT(result.rolled_back, 60u);
  EXPECT_GT(result.interrupted, 15u);
  EXPECT_GT(result.reads_checked, 10'000u);
}

}  // namespace
}  // namespace faultline::sim
