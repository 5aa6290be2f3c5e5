#include "base/histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <thread>
#include <vector>

namespace faultline {
namespace {

// The smallest value that at least `per_mille` of them do not exceed.
uint64_t Exact(std::vector<uint64_t> values, uint64_t per_mille) {
  std::sort(values.begin(), values.end());
  size_t rank = (values.size() * per_mille + 999) / 1000;
  return values[rank - 1];
}

void ExpectClose(uint64_t got, uint64_t exact) {
  EXPECT_GE(got, exact);
  EXPECT_LE(static_cast<double>(got), static_cast<double>(exact) * 1.04 + 1);
}

TEST(Histogram, EmptyIsZero) {
  HistogramSummary summary = Histogram().Summarize();
  EXPECT_EQ(summary.count, 0u);
  EXPECT_EQ(summary.p50, 0u);
  EXPECT_EQ(summary.p999, 0u);
  EXPECT_EQ(summary.max, 0u);
}

TEST(Histogram, OneValueIsAllPercentiles) {
  for (uint64_t value :
       {uint64_t{0}, uint64_t{1}, uint64_t{31}, uint64_t{32}, uint64_t{12345}, UINT64_MAX}) {
    Histogram histogram;
    histogram.Record(value);
    HistogramSummary summary = histogram.Summarize();
    EXPECT_EQ(summary.count, 1u);
    EXPECT_EQ(summary.p50, value);
    EXPECT_EQ(summary.p999, value);
    EXPECT_EQ(summary.max, value);
  }
}

TEST(Histogram, SmallValuesAreExact) {
  Histogram histogram;
  for (uint64_t value = 1; value <= 10; ++value) histogram.Record(value);
  HistogramSummary summary = histogram.Summarize();
  EXPECT_EQ(summary.p50, 5u);
  EXPECT_EQ(summary.p90, 9u);
  EXPECT_EQ(summary.p99, 10u);
}

TEST(Histogram, PercentilesAreWithinResolutionOfTheExactOnes) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 random(seed);
    Histogram histogram;
    std::vector<uint64_t> values;
    for (int i = 0; i < 5000; ++i) {
      // Latencies: most small, a long tail.
      uint64_t value = random() >> (random() % 50 + 10);
      values.push_back(value);
      histogram.Record(value);
    }
    HistogramSummary summary = histogram.Summarize();
    EXPECT_EQ(summary.count, values.size());
    ExpectClose(summary.p50, Exact(values, 500));
    ExpectClose(summary.p90, Exact(values, 900));
    ExpectClose(summary.p99, Exact(values, 990));
    ExpectClose(summary.p999, Exact(values, 999));
    EXPECT_EQ(summary.max, Exact(values, 1000));
  }
}

TEST(Histogram, SnapshotsWhileAnotherThreadRecords) {
  Histogram histogram;
  std::thread recorder([&] {
    for (uint64_t i = 0; i < 20000; ++i) histogram.Record(i % 100);
  });
  uint64_t seen = 0;
  while (seen < 20000) {
    HistogramSummary summary = histogram.Summarize();
    EXPECT_GE(summary.count, seen);
    EXPECT_LT(summary.max, 100u);
    seen = summary.count;
    std::this_thread::yield();
  }
  recorder.join();
}

}  // namespace
}  // namespace faultline
