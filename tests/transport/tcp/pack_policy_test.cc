#include "transport/tcp/pack_policy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

namespace faultline {
namespace {

constexpr int64_t kMillisecond = 1'000'000;

// How an algorithm does with the memory.
struct Packer {
  double rate;   // bytes of the memory per nanosecond
  double ratio;  // packed by unpacked
};

// A lane on a link: runs follow each other on a clock of its own, each taking as long as the
// slowest of packer, link and receiver does.
struct Bench {
  double link_rate = 0.125;   // bytes per nanosecond: 1 Gbit/s
  double receive_rate = 1.5;  // of the memory's bytes
  Packer lz4{0.6, 0.4};
  Packer zstd{0.3, 0.37};
  PackPolicy policy{Compression::kAuto};
  int64_t now_ns = 1'000'000'000;
  uint64_t bytes = 0;
  uint64_t packed_bytes = 0;
  uint64_t zstd_bytes = 0;
  int64_t sampling_ns = 0;

  const Packer& Of(PackAlgorithm algorithm) const {
    return algorithm == PackAlgorithm::kZstd ? zstd : lz4;
  }
  void SetRatio(double ratio) { lz4.ratio = zstd.ratio = ratio; }

  int64_t Note(PackAlgorithm algorithm, uint64_t run_bytes) {
    const Packer& packer = Of(algorithm);
    const auto in = static_cast<double>(run_bytes);
    const auto spent_ns = static_cast<int64_t>(in / packer.rate);
    policy.NotePacking(now_ns, algorithm, run_bytes, static_cast<uint64_t>(in * packer.ratio),
                       spent_ns);
    return spent_ns;
  }

  void Run(int64_t for_ns) {
    for (const int64_t end_ns = now_ns + for_ns; now_ns < end_ns;) {
      if (PackAlgorithm wanted = policy.WantsSample(now_ns); wanted != PackAlgorithm::kNone) {
        sampling_ns += Note(wanted, PackPolicy::kSampleBytesMax);
      }
      const uint64_t run_bytes = policy.RunBytes(16 * 1024, 256 * 1024);
      const PackAlgorithm algorithm = policy.Choose(now_ns);
      policy.NoteRun(run_bytes);
      double rate = std::min(link_rate, receive_rate);
      if (algorithm != PackAlgorithm::kNone) {
        Note(algorithm, run_bytes);
        const Packer& packer = Of(algorithm);
        rate = std::min({link_rate / packer.ratio, receive_rate, packer.rate});
        packed_bytes += run_bytes;
        if (algorithm == PackAlgorithm::kZstd) zstd_bytes += run_bytes;
      }
      now_ns += static_cast<int64_t>(static_cast<double>(run_bytes) / rate);
      bytes += run_bytes;
    }
  }

  double packed_share() {
    const double share = static_cast<double>(packed_bytes) / static_cast<double>(bytes);
    bytes = packed_bytes = zstd_bytes = 0;
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
  bench.SetRatio(1);
  bench.Run(3000 * kMillisecond);
  EXPECT_EQ(bench.packed_share(), 0);
  EXPECT_LT(bench.sampling_ns, 3000 * kMillisecond / 100);
}

TEST(PackPolicyTest, FastLinksAndFastMemoryGoTogether) {
  Bench bench;
  bench.link_rate = 1;
  bench.lz4 = bench.zstd = {6, 0.01};  // one byte, over and over
  bench.receive_rate = 3;
  bench.Run(3000 * kMillisecond);
  EXPECT_GT(bench.packed_share(), 0.9);
}

TEST(PackPolicyTest, AGainThatDoesNotComeEndsIt) {
  Bench bench;
  bench.link_rate = 0.5;
  bench.receive_rate = 0.5;  // the link could do no better either way
  bench.lz4.rate = 5;
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
  bench.SetRatio(1);
  bench.Run(200 * kMillisecond);
  bench.packed_share();
  bench.Run(500 * kMillisecond);
  EXPECT_EQ(bench.packed_share(), 0);
  bench.SetRatio(0.3);
  bench.Run(300 * kMillisecond);
  bench.packed_share();
  bench.Run(500 * kMillisecond);
  EXPECT_GT(bench.packed_share(), 0.9);
}

TEST(PackPolicyTest, ASlowLinkIsWorthMoreTime) {
  Bench bench;
  bench.lz4 = {0.6, 0.5};
  bench.link_rate = 0.0125;  // 100 Mbit/s
  bench.Run(100 * kMillisecond);
  bench.packed_share();
  bench.Run(2000 * kMillisecond);
  EXPECT_GT(bench.zstd_bytes, bench.bytes * 9 / 10);
}

TEST(PackPolicyTest, AnAlgorithmThatIsSlowerThanTheLinkIsNotTaken) {
  Bench bench;
  bench.lz4 = {0.6, 0.5};
  bench.Run(2000 * kMillisecond);
  EXPECT_EQ(bench.zstd_bytes, 0u);
  EXPECT_GT(bench.packed_share(), 0.8);
}

TEST(PackPolicyTest, LittleLessIsNotWorthMoreTime) {
  Bench bench;
  bench.zstd = {0.3, 0.39};
  bench.link_rate = 0.0125;
  bench.Run(2000 * kMillisecond);
  EXPECT_EQ(bench.zstd_bytes, 0u);
  EXPECT_GT(bench.packed_share(), 0.8);
}

TEST(PackPolicyTest, NothingIsPackedBeforeTheLinkIsKnown) {
  PackPolicy policy(Compression::kAuto);
  for (int64_t ms = 0; ms < 100; ++ms) {
    const auto algorithm = ms % 2 == 0 ? PackAlgorithm::kLz4 : PackAlgorithm::kZstd;
    policy.NotePacking(ms * kMillisecond, algorithm, 1000, 100, 100);
  }
  EXPECT_EQ(policy.Choose(100 * kMillisecond), PackAlgorithm::kNone);
  policy.NoteRun(1'250'000);
  EXPECT_EQ(policy.Choose(110 * kMillisecond), PackAlgorithm::kLz4);
}

TEST(PackPolicyTest, RunsGrowByWhatPackingSaves) {
  PackPolicy policy(Compression::kLz4);
  EXPECT_EQ(policy.RunBytes(16384, 262144), 16384u);
  policy.NotePacking(0, PackAlgorithm::kLz4, 1000, 340, 1);
  EXPECT_EQ(policy.RunBytes(16384, 262144), 32768u);
  for (int i = 0; i < 100; ++i) policy.NotePacking(0, PackAlgorithm::kLz4, 1000, 0, 1);
  EXPECT_EQ(policy.RunBytes(16384, 262144), 262144u);
  EXPECT_EQ(PackPolicy(Compression::kOff).RunBytes(16384, 262144), 16384u);
}

TEST(PackPolicyTest, FixedChoicesAreKept) {
  const std::pair<Compression, PackAlgorithm> choices[] = {
      {Compression::kOff, PackAlgorithm::kNone},
      {Compression::kLz4, PackAlgorithm::kLz4},
      {Compression::kZstd, PackAlgorithm::kZstd}};
  for (const auto& [mode, algorithm] : choices) {
    PackPolicy policy(mode);
    EXPECT_EQ(policy.WantsSample(0), PackAlgorithm::kNone);
    policy.NotePacking(0, PackAlgorithm::kLz4, 1000, 1000, 1000);
    EXPECT_EQ(policy.Choose(0), algorithm);
    EXPECT_EQ(policy.Choose(1000 * kMillisecond), algorithm);
  }
}

}  // namespace
}  // namespace faultline
