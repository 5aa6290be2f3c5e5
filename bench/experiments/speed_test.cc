#include "experiments/speed.h"

#include <gtest/gtest.h>

namespace faultline::bench::experiments {
namespace {

// `per_bin[i]` operations in bin i.
Speed Of(const std::vector<int>& per_bin) {
  Speed speed;
  for (size_t bin = 0; bin < per_bin.size(); ++bin) {
    for (int i = 0; i < per_bin[bin]; ++i) speed.Count(static_cast<int64_t>(bin) * kBinUs + i);
  }
  return speed;
}

TEST(SpeedTest, CountsByBins) {
  Speed speed = Of({1, 0, 2});
  EXPECT_EQ(speed.bins(), (std::vector<uint64_t>{1, 0, 2}));
  speed.Add(Of({0, 5, 0, 1}));
  EXPECT_EQ(speed.bins(), (std::vector<uint64_t>{1, 5, 2, 1}));
  EXPECT_EQ(speed.total(), 9u);
}

TEST(SpeedTest, IsTheMedianOfWholeWindows) {
  std::vector<int> bins(40);
  for (size_t bin = 0; bin < bins.size(); ++bin) bins[bin] = bin < 10 ? 1 : bin < 20 ? 7 : 3;
  EXPECT_EQ(Of(bins).PerWindow(0, 300'000), 30);
  EXPECT_EQ(Of(bins).PerWindow(0, 200'000), 40);
  // A window that is not whole does not count, nor does a bin that is not: 66 and 30 are left.
  EXPECT_EQ(Of(bins).PerWindow(0, 199'999), 10);
  EXPECT_EQ(Of(bins).PerWindow(100'001, 399'999), 48);
}

TEST(SpeedTest, IsTheMeanWhereNoWindowFits) {
  EXPECT_EQ(Of({2, 4, 9}).PerWindow(0, 20'000), 30);
  EXPECT_EQ(Of({2, 4, 9}).PerWindow(10'000, 29'999), 40);
  EXPECT_EQ(Of({2, 4}).PerWindow(0, 9'999), std::nullopt);
  EXPECT_EQ(Of({2, 4}).PerWindow(20'000, 10'000), std::nullopt);
}

TEST(SpeedTest, NothingIsDoneAfterTheLastOperation) {
  EXPECT_EQ(Of({5}).PerWindow(0, 100'000), 5);
  EXPECT_EQ(Of({5}).PerWindow(100'000, 200'000), 0);
}

}  // namespace
}  // namespace faultline::bench::experiments
