#include "transport/tcp/share_probe.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "transport/tcp/queue_bound.h"

namespace faultline {
namespace {

constexpr int64_t kSampleNs = 5'000'000;
constexpr int kSecond = 200;      // of samples
constexpr double kLink = 0.125;   // bytes per nanosecond, 1 Gbit/s
constexpr double kRoundTripNs = 50'000;

// A full lane over a link, with as much queued as the bound allows.
class Lane {
 public:
  // Others keep `queue_ns` of the link's time queued, and leave half of it to who asks for it.
  void Pass(int samples, double link, double queue_ns) {
    wire_bytes_ = 0;
    most_bytes_ = 0;
    for (int i = 0; i < samples; ++i) {
      const auto queued = static_cast<double>(
          bound_.buffer_bytes() == 0 ? uint64_t{1} << 20 : bound_.buffer_bytes());
      const double share = queue_ns == 0 ? link : link / 2;
      const double rate = std::min(share, queued / (kRoundTripNs + queue_ns));
      wire_bytes_ += rate * kSampleNs;
      at_.acked_bytes += static_cast<uint64_t>(rate * kSampleNs);
      at_.now_ns += kSampleNs;
      bound_.Note(at_);
      most_bytes_ = std::max(most_bytes_, bound_.buffer_bytes());
      if (bound_.buffer_bytes() > 40 * 1024) ++long_;
    }
  }
  uint64_t buffer_bytes() const { return bound_.buffer_bytes(); }
  uint64_t most_bytes() const { return most_bytes_; }
  double wire_bytes() const { return wire_bytes_; }
  int long_samples() const { return long_; }

 private:
  QueueBound bound_;
  QueueBound::Sample at_{.now_ns = 1,
                         .acked_bytes = 0,
                         .min_round_trip_ns = static_cast<int64_t>(kRoundTripNs),
                         .was_full = true};
  double wire_bytes_ = 0;
  uint64_t most_bytes_ = 0;
  int long_ = 0;
};

TEST(ShareProbeTest, BehindAnotherFlowsQueueTheLaneGetsItsShare) {
  Lane lane;
  lane.Pass(kSecond, kLink, 0);
  EXPECT_LT(lane.buffer_bytes(), 40u * 1024);
  lane.Pass(kSecond, kLink, 20'000'000);
  lane.Pass(kSecond, kLink, 20'000'000);
  EXPECT_GT(lane.wire_bytes(), 0.4 * kLink * kSecond * kSampleNs);
}

TEST(ShareProbeTest, OnceTheLinkIsItsOwnAgainItsQueueIsShort) {
  Lane lane;
  lane.Pass(kSecond, kLink, 0);
  lane.Pass(2 * kSecond, kLink, 20'000'000);
  EXPECT_GT(lane.buffer_bytes(), 1000u * 1000);
  lane.Pass(kSecond / 10, kLink, 0);
  EXPECT_LT(lane.buffer_bytes(), 320u * 1024);
  lane.Pass(kSecond, kLink, 0);
  EXPECT_LT(lane.most_bytes(), 320u * 1024);
}

TEST(ShareProbeTest, ALinkThatHasBecomeSlowIsTriedAtTimesAndBelievedInTheEnd) {
  Lane lane;
  lane.Pass(kSecond, kLink, 0);
  lane.Pass(5 * kSecond, kLink / 4, 0);
  EXPECT_GT(lane.long_samples(), 0);
  EXPECT_LT(lane.long_samples(), 5 * kSecond / 5);
  lane.Pass(20 * kSecond, kLink / 4, 0);
  EXPECT_LT(lane.long_samples(), 2 * kSecond);
}

}  // namespace
}  // namespace faultline
