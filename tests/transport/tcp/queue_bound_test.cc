#include "transport/tcp/queue_bound.h"

#include <gtest/gtest.h>

namespace faultline {
namespace {

constexpr int64_t kMs = 1'000'000;

// Feeds `count` samples of a link that carries `bytes_per_second` whatever the bound is.
void Feed(QueueBound* bound, QueueBound::Sample* at, uint64_t bytes_per_second, int count,
          bool full = true) {
  at->was_full = full;
  for (int i = 0; i < count; ++i) {
    bound->Note(*at);
    at->now_ns += 5 * kMs;
    at->acked_bytes += bytes_per_second / 200;
  }
}

TEST(QueueBoundTest, NothingIsBoundBeforeTheRateIsKnown) {
  QueueBound bound;
  EXPECT_EQ(bound.buffer_bytes(), 0u);
  EXPECT_EQ(bound.burst_bytes(), 256u * 1024);
  bound.Note({.now_ns = 7, .acked_bytes = 0, .min_round_trip_ns = 50'000});
  bound.Note({.now_ns = 1000, .acked_bytes = 64 * 1024, .min_round_trip_ns = 50'000});
  EXPECT_EQ(bound.buffer_bytes(), 0u);
}

TEST(QueueBoundTest, HoldsAQuarterOfAMillisecondOfTheLink) {
  struct Case {
    uint64_t bytes_per_second;
    uint64_t buffer_bytes;
    uint64_t burst_bytes;
  };
  for (const Case& c : {Case{1'000'000, 32 * 1024, 16 * 1024},     // the least
                        Case{125'000'000, 37'500, 16 * 1024},      // 1 Gbit/s
                        Case{1'250'000'000, 375'000, 128 * 1024},  // 10 Gbit/s
                        Case{40'000'000'000, 8 << 20, 256 * 1024}}) {
    QueueBound bound;
    QueueBound::Sample at{.now_ns = 1, .acked_bytes = 0, .min_round_trip_ns = 50'000};
    Feed(&bound, &at, c.bytes_per_second, 10);
    EXPECT_NEAR(static_cast<double>(bound.buffer_bytes()), static_cast<double>(c.buffer_bytes),
                static_cast<double>(c.buffer_bytes) / 100);
    EXPECT_EQ(bound.burst_bytes(), c.burst_bytes);
  }
}

TEST(QueueBoundTest, AShortPauseChangesNothingAndALongOneIsForgotten) {
  QueueBound bound;
  QueueBound::Sample at{.now_ns = 1, .acked_bytes = 0, .min_round_trip_ns = 50'000};
  Feed(&bound, &at, 125'000'000, 10);
  const uint64_t before = bound.buffer_bytes();
  Feed(&bound, &at, 0, 4);
  EXPECT_EQ(bound.buffer_bytes(), before);
  Feed(&bound, &at, 0, 10);
  EXPECT_EQ(bound.buffer_bytes(), 32u * 1024);
}

// Otherwise a busy host would send ever less at a time, and so be ever busier.
TEST(QueueBoundTest, ASlowSenderIsNotTakenForASlowLink) {
  QueueBound bound;
  QueueBound::Sample at{.now_ns = 1, .acked_bytes = 0, .min_round_trip_ns = 50'000};
  Feed(&bound, &at, 1'250'000'000, 10);
  const uint64_t before = bound.buffer_bytes();
  Feed(&bound, &at, 1'000'000, 50, /*full=*/false);
  EXPECT_EQ(bound.buffer_bytes(), before);
  Feed(&bound, &at, 2'500'000'000, 2, /*full=*/false);
  EXPECT_GT(bound.buffer_bytes(), before);
}

// What is in flight limits the rate that is seen: the bound must grow out of that by itself.
TEST(QueueBoundTest, GrowsUntilTheLinkIsFull) {
  constexpr double kLink = 1.25;  // bytes per nanosecond
  constexpr int64_t kRoundTripNs = 1 * kMs;
  QueueBound bound;
  QueueBound::Sample at{
      .now_ns = 1, .acked_bytes = 0, .min_round_trip_ns = kRoundTripNs, .was_full = true};
  double window = 64 * 1024;
  for (int i = 0; i < 30; ++i) {
    bound.Note(at);
    if (bound.buffer_bytes() != 0) window = static_cast<double>(bound.buffer_bytes());
    double rate = std::min(kLink, window / static_cast<double>(kRoundTripNs));
    at.now_ns += 5 * kMs;
    at.acked_bytes += static_cast<uint64_t>(rate * 5 * kMs);
  }
  EXPECT_GE(window, kLink * static_cast<double>(kRoundTripNs));
}

TEST(QueueBoundTest, AFarPeerIsLeftToTheKernel) {
  QueueBound bound;
  QueueBound::Sample at{.now_ns = 1, .acked_bytes = 0, .min_round_trip_ns = 20 * kMs};
  Feed(&bound, &at, 125'000'000, 10);
  EXPECT_EQ(bound.buffer_bytes(), 0u);
  EXPECT_EQ(bound.burst_bytes(), 256u * 1024);
}

}  // namespace
}  // namespace faultline
