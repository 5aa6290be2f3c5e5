// Bulk lanes: what every transport's PushLane and PushReceiver must do. Include once, then
// instantiate BulkLaneContract.
#ifndef FAULTLINE_TESTS_CONTRACT_BULK_LANE_CONTRACT_H_
#define FAULTLINE_TESTS_CONTRACT_BULK_LANE_CONTRACT_H_

#include <vector>

#include "contract/bulk_lane_fixture.h"

namespace faultline::contract {

class BulkLaneContract : public BulkLaneFixture {};

TEST_P(BulkLaneContract, AllRunsArriveWholeAndInOrderThenTheEnd) {
  OpenLanes();
  StartReceiver();
  MakePusher(ManyRuns(push_->run_bytes_max() / 4096));
  std::vector<PageRun> sent = ManyRuns(push_->run_bytes_max() / 4096);
  StartPusher();
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.finished(); }));
  EXPECT_EQ(notes_.runs(), sent);
  uint64_t bytes = 0;
  for (const PageRun& run : sent) bytes += run.count * TestLayout()[run.region].page_size_bytes;
  EXPECT_GE(push_->bytes_sent(), world_->packs() ? sent.size() * kPageFrameBytes : bytes);
  EXPECT_LT(push_->bytes_sent(), bytes + bytes / 20);
  EXPECT_FALSE(pusher_->failure().has_value());
  EXPECT_FALSE(notes_.failure().has_value());
}

TEST_P(BulkLaneContract, AHeldRunIsOfferedAgainAndTheSourceWaits) {
  OpenLanes();
  notes_.HoldFrom(2);
  StartReceiver();
  std::vector<PageRun> runs;
  for (uint64_t i = 0; i < 600; ++i) runs.push_back({0, 1500 + (i * 64) % 2048, 64});
  MakePusher(runs);
  StartPusher();
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.offers() == 3; }));
  world_->Settle();
  EXPECT_EQ(notes_.offers(), 3u);
  EXPECT_EQ(notes_.runs().size(), 2u);
  // 150 MiB are to be sent; what is under way is bounded by the lane and the kernel's buffers.
  EXPECT_LT(pusher_->pushed(), 300u);
  // Still no: the run stays held.
  world_->RunOn(Place::kBulk, [&] { receiver_->Resume(); });
  EXPECT_EQ(notes_.offers(), 4u);
  notes_.HoldFrom(std::nullopt);
  world_->RunOn(Place::kBulk, [&] { receiver_->Resume(); });
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.finished(); }));
  EXPECT_EQ(notes_.runs(), runs);
  EXPECT_EQ(notes_.offers(), runs.size() + 2);
}

TEST_P(BulkLaneContract, TheLastRunMayBeHeld) {
  OpenLanes();
  notes_.HoldFrom(1);
  StartReceiver();
  MakePusher({{0, 0, 4}, {0, 4, 4}});
  StartPusher();
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.offers() == 2; }));
  world_->Settle();
  EXPECT_FALSE(notes_.finished());
  notes_.HoldFrom(std::nullopt);
  world_->RunOn(Place::kBulk, [&] { receiver_->Resume(); });
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.finished(); }));
  EXPECT_EQ(notes_.runs().size(), 2u);
}

TEST_P(BulkLaneContract, FinishWithoutAnyRun) {
  OpenLanes();
  StartReceiver();
  MakePusher({});
  StartPusher();
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.finished(); }));
}

TEST_P(BulkLaneContract, AfterTheEndEitherSideMayGoWithoutAFailure) {
  OpenLanes();
  StartReceiver();
  MakePusher({{0, 0, 4}});
  StartPusher();
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.finished(); }));
  world_->RunOn(Place::kBulk, [&] { receiver_->Stop(); });
  world_->Settle();
  EXPECT_FALSE(pusher_->failure().has_value()) << *pusher_->failure();
  EXPECT_FALSE(notes_.failure().has_value());
}

TEST_P(BulkLaneContract, ReceiverThatGoesBeforeTheEndFailsTheLane) {
  OpenLanes();
  notes_.HoldFrom(1);
  StartReceiver();
  std::vector<PageRun> runs(2000, PageRun{0, 2000, 64});
  MakePusher(runs);
  StartPusher();
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.offers() == 2; }));
  world_->RunOn(Place::kBulk, [&] { receiver_->Stop(); });
  ASSERT_TRUE(world_->WaitUntil([&] { return pusher_->failure().has_value(); }));
  EXPECT_TRUE(absl::IsUnavailable(*pusher_->failure())) << *pusher_->failure();
}

TEST_P(BulkLaneContract, SourceThatVanishesMidRunFailsTheReceiverAndDeliversNothing) {
  OpenRawLanes();
  StartReceiver();
  PageRun run{0, 2000, 16};
  auto frame = Join(BytesOf(PageFrame{PageFrameKind::kData, run}), memory_.View(run));
  raw_bulk_->Send(frame);
  raw_bulk_->Send(std::span(frame).first(frame.size() - 100));
  raw_bulk_.reset();
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.failure().has_value(); }));
  EXPECT_EQ(notes_.runs().size(), 1u);
  EXPECT_FALSE(notes_.finished());
}

TEST_P(BulkLaneContract, SourceThatGoesWithoutTheEndFailsTheReceiver) {
  OpenRawLanes();
  StartReceiver();
  raw_bulk_.reset();
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.failure().has_value(); }));
  EXPECT_TRUE(absl::IsUnavailable(*notes_.failure())) << *notes_.failure();
}

TEST_P(BulkLaneContract, ARunThatIsTooLongFailsTheReceiverByName) {
  OpenRawLanes();
  StartReceiver();
  raw_bulk_->Send(BytesOf(PageFrame{PageFrameKind::kData, {0, 0, 65}}));
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.failure().has_value(); }));
  EXPECT_TRUE(absl::IsInvalidArgument(*notes_.failure()));
  EXPECT_NE(MessageOf(*notes_.failure()).find("'pages'"), std::string::npos) << *notes_.failure();
}

TEST_P(BulkLaneContract, GarbageFailsTheReceiverByName) {
  OpenRawLanes();
  StartReceiver();
  raw_bulk_->Send(Text("this is not a page frame, is it?"));
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.failure().has_value(); }));
  EXPECT_TRUE(absl::IsInvalidArgument(*notes_.failure()));
  EXPECT_NE(MessageOf(*notes_.failure()).find("'kind'"), std::string::npos) << *notes_.failure();
}

TEST_P(BulkLaneContract, APackedRunThatSavesNothingFailsTheReceiverByName) {
  OpenRawLanes();
  StartReceiver();
  raw_bulk_->Send(
      BytesOf(PageFrame{PageFrameKind::kPacked, {0, 0, 2}, PackAlgorithm::kLz4, 2 * 4096}));
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.failure().has_value(); }));
  EXPECT_TRUE(absl::IsInvalidArgument(*notes_.failure()));
  EXPECT_NE(MessageOf(*notes_.failure()).find("'packed bytes'"), std::string::npos)
      << *notes_.failure();
}

TEST_P(BulkLaneContract, AnUnknownPackingFailsTheReceiverByName) {
  OpenRawLanes();
  StartReceiver();
  raw_bulk_->Send(
      BytesOf(PageFrame{PageFrameKind::kPacked, {0, 0, 2}, static_cast<PackAlgorithm>(7), 100}));
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.failure().has_value(); }));
  EXPECT_TRUE(absl::IsInvalidArgument(*notes_.failure()));
  EXPECT_NE(MessageOf(*notes_.failure()).find("'algorithm'"), std::string::npos)
      << *notes_.failure();
}

TEST_P(BulkLaneContract, ZeroPagesTravelAsAFrameAlone) {
  OpenLanes();
  StartReceiver();
  const std::vector<PageRun> zeros = {{0, 1100, 64}, {1, 1, 1}, {0, 1400, 16}};
  MakePusher(zeros);
  StartPusher();
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.finished(); }));
  EXPECT_EQ(notes_.runs(), zeros);
  EXPECT_EQ(push_->bytes_sent(), (zeros.size() + 1) * kPageFrameBytes);
}

TEST_P(BulkLaneContract, AZeroFrameHasNoBytes) {
  OpenRawLanes();
  StartReceiver();
  const PageRun data{0, 2000, 2};
  raw_bulk_->Send(BytesOf(PageFrame{PageFrameKind::kZero, {0, 1100, 5}}));
  raw_bulk_->Send(Join(BytesOf(PageFrame{PageFrameKind::kData, data}), memory_.View(data)));
  raw_bulk_->Send(BytesOf(PageFrame{PageFrameKind::kFinished, {}}));
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.finished(); }));
  EXPECT_EQ(notes_.runs(), (std::vector<PageRun>{{0, 1100, 5}, data}));
}

TEST_P(BulkLaneContract, AHeldZeroRunIsOfferedAgain) {
  OpenRawLanes();
  notes_.HoldFrom(0);
  StartReceiver();
  raw_bulk_->Send(BytesOf(PageFrame{PageFrameKind::kZero, {0, 1100, 5}}));
  raw_bulk_->Send(BytesOf(PageFrame{PageFrameKind::kFinished, {}}));
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.offers() == 1; }));
  world_->Settle();
  EXPECT_FALSE(notes_.finished());
  notes_.HoldFrom(std::nullopt);
  world_->RunOn(Place::kBulk, [&] { receiver_->Resume(); });
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.finished(); }));
  EXPECT_EQ(notes_.runs(), (std::vector<PageRun>{{0, 1100, 5}}));
}

TEST_P(BulkLaneContract, StopWithARunUnderWay) {
  OpenLanes();
  notes_.HoldFrom(0);
  StartReceiver();
  MakePusher(std::vector<PageRun>(100, PageRun{1, 0, 1}));
  StartPusher();
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.offers() == 1; }));
  world_->RunOn(Place::kSourceBulk, [&] { push_->Stop(); });
  world_->RunOn(Place::kBulk, [&] { receiver_->Stop(); });
  world_->Settle();
  EXPECT_FALSE(pusher_->failure().has_value());
  EXPECT_FALSE(notes_.failure().has_value());
}

// After a lost connection: the ends of the first lanes are at rest, and new ones are opened.
TEST_P(BulkLaneContract, LanesAreOpenedAgain) {
  for (int round = 0; round < 3; ++round) {
    SCOPED_TRACE(round);
    lanes_outcome_.reset();
    source_lanes_outcome_.reset();
    OpenLanes();
    RunNotes notes(&memory_);
    MakePusher(std::vector<PageRun>(50, PageRun{0, 2000, 32}));
    world_->RunOn(Place::kBulk, [&] { receiver_->Start(&notes); });
    StartPusher();
    ASSERT_TRUE(world_->WaitUntil([&] { return notes.runs().size() >= 2; }));
    world_->RunOn(Place::kSourceDemand, [&] { exporter_->Stop(); });
    world_->RunOn(Place::kSourceBulk, [&] { push_->Stop(); });
    world_->RunOn(Place::kDemand, [&] { reader_->Stop(); });
    world_->RunOn(Place::kBulk, [&] { receiver_->Stop(); });
    EXPECT_FALSE(pusher_->failure().has_value());
  }
}

// What one call has not given out yet is dropped by the next.
TEST_P(BulkLaneContract, OpeningIsBegunAgainBeforeItIsDone) {
  ExpectLanes();
  auto half = world_->ConnectRaw(ConnectionRole::kDemand);
  half->Send(BytesOf(HelloFor(ConnectionRole::kDemand)));
  ASSERT_TRUE(world_->WaitUntil([&] { return !half->Received().empty(); }));
  ExpectLanes();
  ASSERT_TRUE(world_->WaitUntil([&] { return half->Closed(); }));
  world_->RunOn(Place::kSourceControl, [&] {
    world_->source().OpenLanes(kId, kToken, TestLayout(), kTimeoutUs,
                               [](auto) { ADD_FAILURE() << "it was begun again"; });
    world_->source().OpenLanes(kId, kToken, TestLayout(), kTimeoutUs, [this](auto lanes) {
      std::lock_guard lock(lanes_mutex_);
      source_lanes_outcome_ = lanes.status();
      if (!lanes.ok()) return;
      exporter_ = lanes->exporter;
      push_ = lanes->push;
    });
  });
  ASSERT_TRUE(world_->WaitUntil([&] { return lanes_outcome() && source_lanes_outcome(); }));
  EXPECT_TRUE(lanes_outcome()->ok()) << *lanes_outcome();
  EXPECT_TRUE(source_lanes_outcome()->ok()) << *source_lanes_outcome();
}

}  // namespace faultline::contract

#endif  // FAULTLINE_TESTS_CONTRACT_BULK_LANE_CONTRACT_H_
