#include "base/spsc_ring.h"

#include <gtest/gtest.h>

#include <thread>

namespace faultline {
namespace {

TEST(SpscRingTest, KeepsTheOrderAndRefusesWhatDoesNotFit) {
  SpscRing<int, 4> ring;
  EXPECT_EQ(ring.TryPop(), std::nullopt);
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < 4; ++i) EXPECT_TRUE(ring.TryPush(i));
    EXPECT_FALSE(ring.TryPush(4));
    for (int i = 0; i < 4; ++i) EXPECT_EQ(ring.TryPop(), i);
    EXPECT_EQ(ring.TryPop(), std::nullopt);
  }
}

TEST(SpscRingTest, TwoThreadsLoseNothing) {
  constexpr int kCount = 200'000;
  SpscRing<int, 64> ring;
  std::thread pushing([&] {
    for (int i = 0; i < kCount; ++i) {
      while (!ring.TryPush(i)) std::this_thread::yield();
    }
  });
  for (int next = 0; next < kCount;) {
    if (std::optional<int> value = ring.TryPop()) {
      ASSERT_EQ(*value, next);
      ++next;
    } else {
      std::this_thread::yield();
    }
  }
  pushing.join();
}

}  // namespace
}  // namespace faultline
