#include "experiments/access_pattern.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <vector>

namespace faultline::bench::experiments {
namespace {

constexpr uint64_t kPages = 1000;
constexpr uint64_t kTouches = 200'000;

Point With(const std::string& pattern) {
  Point point;
  point.pattern = pattern;
  return point;
}

std::vector<uint64_t> First(const Point& point, uint64_t count, uint64_t seed, uint64_t touches) {
  const std::unique_ptr<AccessPattern> pattern = MakeAccessPattern(point, count, seed);
  std::vector<uint64_t> pages;
  for (uint64_t i = 0; i < touches; ++i) pages.push_back(pattern->Next());
  return pages;
}

// Touches of each page, the most touched one first.
std::vector<uint64_t> Counts(const Point& point) {
  std::vector<uint64_t> counts(kPages);
  for (const uint64_t page : First(point, kPages, 1, kTouches)) ++counts.at(page);
  std::sort(counts.begin(), counts.end(), std::greater<>());
  return counts;
}

double ShareOfFirst(const std::vector<uint64_t>& counts, int64_t pages) {
  return std::accumulate(counts.begin(), counts.begin() + pages, 0.0) / kTouches;
}

class AccessPatternTest : public ::testing::TestWithParam<std::string> {};

TEST_P(AccessPatternTest, IsTheSameForTheSameSeedAndStaysInside) {
  for (const uint64_t count : {uint64_t{1}, uint64_t{2}, uint64_t{777}}) {
    const std::vector<uint64_t> pages = First(With(GetParam()), count, 5, 3000);
    EXPECT_EQ(pages, First(With(GetParam()), count, 5, 3000));
    EXPECT_LT(*std::max_element(pages.begin(), pages.end()), count);
  }
}

TEST_P(AccessPatternTest, AnotherSeedGivesAnotherOrder) {
  const bool same =
      First(With(GetParam()), kPages, 5, 100) == First(With(GetParam()), kPages, 6, 100);
  EXPECT_EQ(same, GetParam() == "sequential");
}

TEST_P(AccessPatternTest, ReachesEveryPage) { EXPECT_GT(Counts(With(GetParam())).back(), 0u); }

INSTANTIATE_TEST_SUITE_P(Patterns, AccessPatternTest,
                         ::testing::Values("uniform", "zipf", "hotset", "sequential"),
                         [](const auto& pattern) { return pattern.param; });

TEST(UniformPatternTest, EveryPageIsAsLikely) {
  const std::vector<uint64_t> counts = Counts(With("uniform"));
  // 200 touches a page; six standard deviations.
  EXPECT_LT(counts.front(), 285u);
  EXPECT_GT(counts.back(), 115u);
}

TEST(SequentialPatternTest, GoesRoundInOrder) {
  EXPECT_THAT(First(With("sequential"), 3, 9, 7), ::testing::ElementsAre(0, 1, 2, 0, 1, 2, 0));
}

TEST(HotsetPatternTest, HasItsShares) {
  Point point = With("hotset");
  point.hot_memory_share = 0.05;
  point.hot_access_share = 0.8;
  const std::vector<uint64_t> counts = Counts(point);
  EXPECT_NEAR(ShareOfFirst(counts, 50), 0.8, 0.01);
  // Within both parts every page is as likely: 3200 touches and 42.
  EXPECT_NEAR(static_cast<double>(counts[49]) / static_cast<double>(counts[0]), 1, 0.2);
  EXPECT_LT(counts[50], 90u);
}

TEST(HotsetPatternTest, TheHotPagesAreScattered) {
  Point point = With("hotset");
  point.hot_access_share = 1;
  const std::vector<uint64_t> pages = First(point, kPages, 1, 10'000);
  const auto in_first_tenth =
      std::count_if(pages.begin(), pages.end(), [](uint64_t page) { return page < kPages / 10; });
  EXPECT_LT(in_first_tenth, 5000);
}

class ZipfPatternTest : public ::testing::TestWithParam<double> {};

TEST_P(ZipfPatternTest, FollowsTheLaw) {
  Point point = With("zipf");
  point.zipf_theta = GetParam();
  const std::vector<uint64_t> counts = Counts(point);
  double sum = 0;
  std::vector<double> expected;  // share of the first r ranks, not yet divided
  for (uint64_t rank = 1; rank <= kPages; ++rank) {
    sum += std::pow(static_cast<double>(rank), -GetParam());
    expected.push_back(sum);
  }
  for (const int64_t ranks : {1, 10, 100, 500}) {
    // Sorted by what came, so the upper ranks get a little more than their share.
    EXPECT_NEAR(ShareOfFirst(counts, ranks), expected[static_cast<size_t>(ranks) - 1] / sum, 0.015)
        << ranks;
  }
}

INSTANTIATE_TEST_SUITE_P(Thetas, ZipfPatternTest, ::testing::Values(0.5, 0.99, 1.0, 1.5));

}  // namespace
}  // namespace faultline::bench::experiments
