#include "transport/tcp/token_bucket.h"

#include <gtest/gtest.h>

#include <random>

namespace faultline {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

TEST(TokenBucketTest, NoLimitNeverWaits) {
  TokenBucket bucket(0, 0);
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(bucket.WaitNanos(0), 0);
    bucket.Take(uint64_t{1} << 40);
  }
}

// Bytes that pass in `duration_ns` when every wait ends up to `lateness_ns` late.
uint64_t Pass(uint64_t rate, uint64_t chunk, int64_t duration_ns, int64_t lateness_ns) {
  std::mt19937_64 random(5);
  TokenBucket bucket(rate, 0);
  uint64_t passed = 0;
  int64_t now_ns = 0;
  while (now_ns < duration_ns) {
    if (int64_t wait_ns = bucket.WaitNanos(now_ns); wait_ns > 0) {
      now_ns += wait_ns + static_cast<int64_t>(random() % static_cast<uint64_t>(lateness_ns + 1));
      continue;
    }
    bucket.Take(chunk);
    passed += chunk;
  }
  return passed;
}

TEST(TokenBucketTest, HoldsItsRateForSmallAndLargeChunksAndLateTimers) {
  for (uint64_t rate : {1'000'000u, 125'000'000u, 1'250'000'000u}) {
    for (uint64_t chunk : {4096u, 262144u, 2097152u}) {
      if (chunk > rate) continue;
      for (int64_t lateness_ns : {0, 2'000'000}) {
        uint64_t passed = Pass(rate, chunk, 4 * kSecond, lateness_ns);
        double share = static_cast<double>(passed) / (4.0 * static_cast<double>(rate));
        EXPECT_NEAR(share, 1.0,
                    0.03 + static_cast<double>(chunk) / (4.0 * static_cast<double>(rate)))
            << rate << " B/s in chunks of " << chunk << ", late by " << lateness_ns;
      }
    }
  }
}

TEST(TokenBucketTest, AnIdleTimeIsNotCaughtUpWith) {
  TokenBucket bucket(1'000'000, 0);
  EXPECT_EQ(bucket.WaitNanos(100 * kSecond), 0);
  bucket.Take(10'000);  // the whole burst: 10 ms
  EXPECT_EQ(bucket.WaitNanos(100 * kSecond), 0);
  bucket.Take(1'000'000);
  EXPECT_NEAR(static_cast<double>(bucket.WaitNanos(100 * kSecond)), 1e9, 1e7);
}

}  // namespace
}  // namespace faultline
