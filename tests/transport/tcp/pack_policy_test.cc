#include "transport/tcp/pack_policy.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace faultline {
namespace {

constexpr int64_t kMillisecond = 1'000'000;

// A lane on a link, with memory that packs to `ratio`: runs follow each other on a clock of its
// own, each taking as long as the slowest of packer, link and receiver does.
struct Bench {
  double link_rate = 0.125;   // bytes per nanosecond: 1 Gbit/s
  double pack_rate = 0.6;     // of the memory's bytes
  double receive_rate = 1.5;  // of the memory's bytes
  double ratio = 0.4;
  PackPolicy policy{Compression::kAuto};
  int64_t now_ns = 1'000'000'000;
  uint64_t bytes = 0;
  uint64_t packed_bytes = 0;
  int64_t sampling_ns = 0;

  void Note(uint64_t run_bytes) {
    const auto out = static_cast<uint64_t>(static_cast<double>(run_bytes) * ratio);
    policy.NotePacking(now_ns, run_bytes, out,
                       static_cast<int64_t>(static_cast<double>(run_bytes) / pack_rate));
  }

  void Run(int64_t for_ns) {
    for (const int64_t end_ns = now_ns + for_ns; now_ns < end_ns;) {
      if (policy.WantsSample(now_ns)) {
        Note(PackPolicy::kSampleBytesMax);
        sampling_ns +=
            static_cast<int64_t>(static_cast<double>(PackPolicy::kSampleBytesMax) / pack_rate);
      }
      const uint64_t run_bytes = policy.RunBytes(16 * 1024, 256 * 1024);
      const bool pack = policy.ShouldPack(now_ns);
      policy.NoteRun(run_bytes);
      if (pack) Note(run_bytes);
      double rate = std::min(pack ? link_rate / ratio : link_rate, receive_rate);
      if (pack) rate = std::min(rate, pack_rate);
      now_ns += static_cast<int64_t>(static_cast<double>(run_bytes) / rate);
      bytes += run_bytes;
      if (pack) packed_bytes += run_bytes;
    }
  }

  double packed_share() {
    const double share = static_cast<double>(packed_bytes) / static_cast<double>(bytes);
    bytes = packed_bytes = 0;
    return share;
  }
};

TEST(PackPolicyTest, PacksWhereTheLinkIsTheLimit) {
  Bench bench;
  bench.Run(100 * kMillisecond);
  bench.packed_share();
  bench.Run(2000 * kMillisecond);
  EXPECT_GT(bench.packed_share(), 0.9);
}

TEST(PackPolicyTest, IsDecidedWithinAFewMilliseconds) {
  Bench bench;
  bench.Run(50 * kMillisecond);
  bench.packed_share();
  bench.Run(10 * kMillisecond);
  EXPECT_GT(bench.packed_share(), 0.9);
}

TEST(PackPolicyTest, LeavesAFastLinkAlone) {
  Bench bench;
  bench.link_rate = 1.25;
  bench.Run(3000 * kMillisecond);
  EXPECT_EQ(bench.packed_share(), 0);
}

TEST(PackPolicyTest, LeavesMemoryAloneThatDoesNotPack) {
  Bench bench;
  bench.ratio = 1;
  bench.Run(3000 * kMillisecond);
  EXPECT_EQ(bench.packed_share(), 0);
  EXPECT_LT(bench.sampling_ns, 3000 * kMillisecond / 100);
}

TEST(PackPolicyTest, FastLinksAndFastMemoryGoTogether) {
  Bench bench;
  bench.link_rate = 1;
  bench.ratio = 0.01;  // zeros
  bench.pack_rate = 6;
  bench.receive_rate = 3;
  bench.Run(3000 * kMillisecond);
  EXPECT_GT(bench.packed_share(), 0.9);
}

TEST(PackPolicyTest, AGainThatDoesNotComeEndsIt) {
  Bench bench;
  bench.link_rate = 0.5;
  bench.receive_rate = 0.5;  // the link could do no better either way
  bench.pack_rate = 5;
  bench.Run(4000 * kMillisecond);
  EXPECT_LT(bench.packed_share(), 0.35);
  bench.Run(10'000 * kMillisecond);
  EXPECT_LT(bench.packed_share(), 0.1);
}

TEST(PackPolicyTest, ABusyProcessorIsNotASlowLink) {
  Bench bench;
  bench.link_rate = 1.2;
  for (int i = 0; i < 300; ++i) {
    bench.Run(4 * kMillisecond);
    bench.now_ns += 8 * kMillisecond;  // others have the processor
  }
  EXPECT_EQ(bench.packed_share(), 0);
}

TEST(PackPolicyTest, ALinkThatGetsFasterIsNoticed) {
  Bench bench;
  bench.Run(1000 * kMillisecond);
  EXPECT_GT(bench.packed_share(), 0.8);
  bench.link_rate = 1.25;
  bench.Run(2000 * kMillisecond);
  bench.packed_share();
  bench.Run(1000 * kMillisecond);
  EXPECT_EQ(bench.packed_share(), 0);
}

TEST(PackPolicyTest, FollowsTheMemory) {
  Bench bench;
  bench.Run(300 * kMillisecond);
  bench.ratio = 1;
  bench.Run(200 * kMillisecond);
  bench.packed_share();
  bench.Run(500 * kMillisecond);
  EXPECT_EQ(bench.packed_share(), 0);
  bench.ratio = 0.3;
  bench.Run(300 * kMillisecond);
  bench.packed_share();
  bench.Run(500 * kMillisecond);
  EXPECT_GT(bench.packed_share(), 0.9);
}

TEST(PackPolicyTest, NothingIsPackedBeforeTheLinkIsKnown) {
  PackPolicy policy(Compression::kAuto);
  for (int64_t ms = 0; ms < 100; ++ms) policy.NotePacking(ms * kMillisecond, 1000, 100, 100);
  EXPECT_FALSE(policy.ShouldPack(100 * kMillisecond));
  policy.NoteRun(1'250'000);
  EXPECT_TRUE(policy.ShouldPack(110 * kMillisecond));
}

TEST(PackPolicyTest, RunsGrowByWhatPackingSaves) {
  PackPolicy policy(Compression::kLz4);
  EXPECT_EQ(policy.RunBytes(16384, 262144), 16384u);
  policy.NotePacking(0, 1000, 340, 1);
  EXPECT_EQ(policy.RunBytes(16384, 262144), 32768u);
  for (int i = 0; i < 100; ++i) policy.NotePacking(0, 1000, 0, 1);
  EXPECT_EQ(policy.RunBytes(16384, 262144), 262144u);
  EXPECT_EQ(PackPolicy(Compression::kOff).RunBytes(16384, 262144), 16384u);
}

TEST(PackPolicyTest, FixedChoicesAreKept) {
  PackPolicy off(Compression::kOff);
  PackPolicy lz4(Compression::kLz4);
  for (PackPolicy* policy : {&off, &lz4}) {
    EXPECT_FALSE(policy->WantsSample(0));
    policy->NotePacking(0, 1000, 1000, 1000);
    EXPECT_EQ(policy->ShouldPack(0), policy == &lz4);
    EXPECT_EQ(policy->ShouldPack(1000 * kMillisecond), policy == &lz4);
  }
}

}  // namespace
}  // namespace faultline
