// Runs that go over the bulk lane packed, and what a bad peer may send instead.
#include <gtest/gtest.h>

#include <chrono>
#include <random>

#include "contract/bulk_lane_fixture.h"
#include "transport/tcp/run_packer.h"
#include "transport/tcp/tcp_world.h"

namespace faultline::contract {
namespace {

std::vector<std::byte> Noise(size_t bytes) {
  std::mt19937_64 random(5);
  std::vector<std::byte> noise(bytes);
  for (std::byte& byte : noise) byte = static_cast<std::byte>(random());
  return noise;
}

class RunPackerTest : public ::testing::TestWithParam<PackAlgorithm> {
 protected:
  std::span<const std::byte> Pack(std::span<const std::byte> data) {
    return packer_.Pack(GetParam(), data);
  }

  RunPacker packer_;
  RunUnpacker unpacker_;
};
INSTANTIATE_TEST_SUITE_P(Algorithms, RunPackerTest,
                         ::testing::Values(PackAlgorithm::kLz4, PackAlgorithm::kZstd));

TEST_P(RunPackerTest, PacksAndUnpacks) {
  for (size_t bytes : {size_t{4096}, size_t{256 * 1024}, kPackedRunBytesMax, size_t{8192}}) {
    std::vector<std::byte> data(bytes);
    for (size_t i = 0; i < bytes; ++i) data[i] = static_cast<std::byte>(i * i / 977);
    std::span<const std::byte> packed = Pack(data);
    ASSERT_FALSE(packed.empty());
    EXPECT_LE(packed.size(), bytes - bytes / 16);
    std::vector<std::byte> again(bytes);
    ASSERT_TRUE(unpacker_.Unpack(GetParam(), packed, again).ok());
    EXPECT_EQ(again, data);
  }
}

TEST_P(RunPackerTest, NoiseStaysAsItIs) { EXPECT_TRUE(Pack(Noise(64 * 1024)).empty()); }

TEST_P(RunPackerTest, ZerosBecomeNextToNothing) {
  EXPECT_LT(Pack(std::vector<std::byte>(64 * 1024)).size(), 300u);
}

TEST_P(RunPackerTest, DamagedBytesNeverWriteBeyondTheRun) {
  std::mt19937_64 random(3);
  std::vector<std::byte> data(16384);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i / 3 % 200);
  std::span<const std::byte> packed = Pack(data);
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::byte> damaged(packed.begin(), packed.end());
    damaged[random() % damaged.size()] = static_cast<std::byte>(random());
    damaged.resize(1 + random() % damaged.size());
    std::vector<std::byte> out(data.size() + 64, std::byte{0xa5});
    unpacker_.Unpack(GetParam(), damaged, std::span(out).first(data.size())).IgnoreError();
    ASSERT_TRUE(std::all_of(out.begin() + static_cast<ptrdiff_t>(data.size()), out.end(),
                            [](std::byte byte) { return byte == std::byte{0xa5}; }));
  }
}

class TcpPackedRunsTest : public BulkLaneFixture {
 protected:
  static PageFrame Packed(PageRun run, size_t packed_bytes,
                          PackAlgorithm algorithm = PackAlgorithm::kLz4) {
    return {PageFrameKind::kPacked, run, algorithm, static_cast<uint32_t>(packed_bytes)};
  }

  void ExpectRefused(const std::string& text) {
    ASSERT_TRUE(world_->WaitUntil([&] { return notes_.failure().has_value(); }));
    EXPECT_TRUE(absl::IsInvalidArgument(*notes_.failure())) << *notes_.failure();
    EXPECT_NE(MessageOf(*notes_.failure()).find("'packed bytes'"), std::string::npos);
    EXPECT_NE(MessageOf(*notes_.failure()).find(text), std::string::npos) << *notes_.failure();
    EXPECT_TRUE(notes_.runs().empty());
  }
};
// While a long run lacks much the receiver is woken only for much (SO_RCVLOWAT): what follows it in
// many small frames, more than one turn reads, must be noticed all the same.
TEST_P(TcpPackedRunsTest, TheSmallFramesAfterALongRunAreNoticed) {
  OpenRawLanes();
  StartReceiver();
  const PageRun run{0, 2000, 64};
  std::vector<std::byte> frame =
      Join(BytesOf(PageFrame{PageFrameKind::kData, run}), memory_.View(run));
  const size_t first = frame.size() - 66'000;
  raw_bulk_->Send(std::span(frame).first(first));
  world_->Settle();
  std::vector<std::byte> tail(frame.begin() + static_cast<ptrdiff_t>(first), frame.end());
  constexpr size_t kSmallRuns = 20;
  for (uint64_t i = 0; i < kSmallRuns; ++i) {
    const PageRun small{0, 2 * i, 1};
    tail = Join(Join(tail, BytesOf(PageFrame{PageFrameKind::kData, small})), memory_.View(small));
  }
  tail = Join(tail, BytesOf(PageFrame{PageFrameKind::kFinished, {}}));
  // On the receiver's own thread: all of it has come before the receiver looks.
  world_->RunOn(Place::kBulk, [&] { raw_bulk_->Send(tail); });
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.finished(); }));
  EXPECT_EQ(notes_.runs().size(), 1 + kSmallRuns);
}

INSTANTIATE_TEST_SUITE_P(Tcp, TcpPackedRunsTest, ::testing::Values(WorldFactory([] {
                           return std::make_unique<TcpWorld>(
                               TcpOptions{.compression = Compression::kLz4});
                         })));
INSTANTIATE_TEST_SUITE_P(Tls, TcpPackedRunsTest, ::testing::Values(WorldFactory([] {
                           return std::make_unique<TcpWorld>(
                               TcpOptions{.compression = Compression::kLz4}, CertificatePair());
                         })));

TEST_P(TcpPackedRunsTest, BytesThatAreNoBlockFailTheLane) {
  OpenRawLanes();
  StartReceiver();
  raw_bulk_->Send(Join(BytesOf(Packed({0, 0, 4}, 1000)), Noise(1000)));
  ExpectRefused("no LZ4 block");
}

TEST_P(TcpPackedRunsTest, BytesThatAreNoZstandardFrameFailTheLane) {
  OpenRawLanes();
  StartReceiver();
  raw_bulk_->Send(Join(BytesOf(Packed({0, 0, 4}, 1000, PackAlgorithm::kZstd)), Noise(1000)));
  ExpectRefused("no Zstandard frame");
}

TEST_P(TcpPackedRunsTest, TooFewUnpackedBytesOfAZstandardFrameFailTheLane) {
  OpenRawLanes();
  StartReceiver();
  RunPacker packer;
  std::span<const std::byte> packed = packer.Pack(PackAlgorithm::kZstd, memory_.View({0, 2100, 4}));
  ASSERT_FALSE(packed.empty());
  raw_bulk_->Send(Join(BytesOf(Packed({0, 2100, 8}, packed.size(), PackAlgorithm::kZstd)), packed));
  ExpectRefused("unpack to 16384, the run has 32768");
}

TEST_P(TcpPackedRunsTest, TooFewUnpackedBytesFailTheLane) {
  OpenRawLanes();
  StartReceiver();
  RunPacker packer;
  std::span<const std::byte> packed = packer.Pack(PackAlgorithm::kLz4, memory_.View({0, 2100, 4}));
  ASSERT_FALSE(packed.empty());
  raw_bulk_->Send(Join(BytesOf(Packed({0, 2100, 8}, packed.size())), packed));
  ExpectRefused("unpack to 16384, the run has 32768");
}

TEST_P(TcpPackedRunsTest, TooManyUnpackedBytesFailTheLane) {
  OpenRawLanes();
  StartReceiver();
  RunPacker packer;
  std::span<const std::byte> packed =
      packer.Pack(PackAlgorithm::kLz4, std::vector<std::byte>(65536));
  raw_bulk_->Send(Join(BytesOf(Packed({0, 2100, 4}, packed.size())), packed));
  ExpectRefused("more than 16384 bytes");
}

TEST_P(TcpPackedRunsTest, PackedAndPlainRunsMixAndMayBeHeld) {
  OpenRawLanes();
  notes_.HoldFrom(1);
  StartReceiver();
  RunPacker packer;
  std::vector<std::byte> bytes;
  for (PageRun run : {PageRun{0, 2100, 16}, PageRun{1, 2, 1}, PageRun{0, 2600, 64}}) {
    std::span<const std::byte> packed = packer.Pack(PackAlgorithm::kLz4, memory_.View(run));
    ASSERT_FALSE(packed.empty());
    bytes = Join(Join(std::move(bytes), BytesOf(Packed(run, packed.size()))), packed);
    PageRun plain{0, run.first, 1};
    bytes = Join(Join(std::move(bytes), BytesOf(PageFrame{PageFrameKind::kData, plain})),
                 memory_.View(plain));
  }
  bytes = Join(std::move(bytes), BytesOf(PageFrame{PageFrameKind::kFinished, {}}));
  raw_bulk_->Send(std::span(bytes).first(bytes.size() / 2));
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.offers() == 2; }));
  notes_.HoldFrom(std::nullopt);
  world_->RunOn(Place::kBulk, [&] { receiver_->Resume(); });
  raw_bulk_->Send(std::span(bytes).subspan(bytes.size() / 2));
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.finished(); }));
  EXPECT_EQ(notes_.runs().size(), 6u);  // RunNotes has compared each with the memory
}

TEST_P(TcpPackedRunsTest, TheDemandLaneHasNoPackedPages) {
  struct Sink : PageReader::Listener, FailureNotes {
    void OnPage(PageId, std::span<const std::byte>, std::optional<uint64_t>) override {}
    void OnReaderFailed(absl::Status status) override { Note(std::move(status)); }
  } sink;
  OpenRawLanes();
  world_->RunOn(Place::kDemand, [&] { reader_->Start(&sink); });
  raw_demand_->Send(BytesOf(Packed({0, 0, 1}, 100)));
  ASSERT_TRUE(world_->WaitUntil([&] { return sink.failure().has_value(); }));
  EXPECT_NE(MessageOf(*sink.failure()).find("'kind'"), std::string::npos) << *sink.failure();
  world_->RunOn(Place::kDemand, [&] { reader_->Stop(); });
}

TEST_P(TcpPackedRunsTest, TheSourceCountsWhatItPacks) {
  OpenLanes();
  StartReceiver();
  MakePusher({{0, 2100, 64}, {0, 1600, 2}, {1, 2, 1}});
  StartPusher();
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.finished(); }));
  PackedBytes packed;
  world_->RunOn(Place::kSourceControl, [&] { packed = world_->source().bytes_packed(); });
  EXPECT_EQ(packed.in, 64u * 4096 + (2 << 20));
  EXPECT_LT(packed.out, packed.in);
  EXPECT_EQ(push_->bytes_sent(), packed.out + 2 * 4096 + 4 * kPageFrameBytes);
}

// A link made slow by pacing: packing pays, without anybody asking for it.
class TcpAutomaticPackingTest : public BulkLaneFixture {};
INSTANTIATE_TEST_SUITE_P(Tcp, TcpAutomaticPackingTest, ::testing::Values(WorldFactory([] {
                           TcpOptions options;
                           options.bandwidth_bytes_per_second = 20'000'000;
                           return std::make_unique<TcpWorld>(options);
                         })));

TEST_P(TcpAutomaticPackingTest, ASlowLinkIsPackedFor) {
  OpenLanes();
  StartReceiver();
  std::vector<PageRun> runs;
  for (uint64_t i = 0; i < 1200; ++i) runs.push_back({0, 2048 + 4 * (i % 500), 4});
  MakePusher(runs);
  StartPusher();
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.finished(); }));
  EXPECT_EQ(notes_.runs(), runs);
  PackedBytes packed;
  world_->RunOn(Place::kSourceControl, [&] { packed = world_->source().bytes_packed(); });
  EXPECT_GT(packed.in, runs.size() * 16384 / 2);
  EXPECT_LT(push_->bytes_sent(), runs.size() * 16384 * 9 / 10);
}

}  // namespace
}  // namespace faultline::contract
