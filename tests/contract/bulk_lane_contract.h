// Bulk lanes: what every transport's PushLane and PushReceiver must do. Include once, then
// instantiate BulkLaneContract.
#ifndef FAULTLINE_TESTS_CONTRACT_BULK_LANE_CONTRACT_H_
#define FAULTLINE_TESTS_CONTRACT_BULK_LANE_CONTRACT_H_

#include <atomic>
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
  EXPECT_EQ(AsCompared(notes_.runs()), AsCompared(sent));
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
  EXPECT_EQ(AsCompared(notes_.runs()), AsCompared(runs));
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

TEST_P(BulkLaneContract, MarksStandWhereTheyWereBetweenTheRuns) {
  OpenLanes();
  StartReceiver();
  pusher_ = std::make_unique<Pusher>(
      std::vector<PageRun>{{0, 1500, 64}, {0, 1564, 64}, {1, 0, 1}, {0, 1500, 8}});
  pusher_->MarkBefore(0, {PageFrameKind::kRoundBegin, 1});
  pusher_->MarkBefore(3, {PageFrameKind::kRoundEnd, 1});
  pusher_->MarkBefore(3, {PageFrameKind::kRoundBegin, 2});
  pusher_->MarkBefore(4, {PageFrameKind::kRoundEnd, 2});
  StartPusher();
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.finished(); }));
  EXPECT_EQ(notes_.runs().size(), 4u);
  EXPECT_EQ(notes_.marks(), (std::vector<RunNotes::Mark>{{PageFrameKind::kRoundBegin, 1, 0},
                                                         {PageFrameKind::kRoundEnd, 1, 3},
                                                         {PageFrameKind::kRoundBegin, 2, 3},
                                                         {PageFrameKind::kRoundEnd, 2, 4}}));
}

TEST_P(BulkLaneContract, AMarkWaitsBehindAHeldRun) {
  OpenRawLanes();
  notes_.HoldFrom(0);
  StartReceiver();
  raw_bulk_->Send(BytesOf(PageFrame{PageFrameKind::kZero, {0, 1100, 5}}));
  raw_bulk_->Send(BytesOf(PageFrame{PageFrameKind::kRoundEnd, {0, 7, 0}}));
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.offers() == 1; }));
  world_->Settle();
  EXPECT_TRUE(notes_.marks().empty());
  notes_.HoldFrom(std::nullopt);
  world_->RunOn(Place::kBulk, [&] { receiver_->Resume(); });
  ASSERT_TRUE(world_->WaitUntil([&] { return !notes_.marks().empty(); }));
  EXPECT_EQ(notes_.marks(), (std::vector<RunNotes::Mark>{{PageFrameKind::kRoundEnd, 7, 1}}));
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
    world_->source().OpenLanes(TermsWith(kToken), kTimeoutUs,
                               [](auto) { ADD_FAILURE() << "it was begun again"; });
    world_->source().OpenLanes(TermsWith(kToken), kTimeoutUs, [this](auto lanes) {
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

TEST_P(BulkLaneContract, WithIntegrityEveryRunHasItsCheckSum) {
  integrity_ = true;
  OpenLanes();
  StartReceiver();
  std::vector<PageRun> sent = ManyRuns(push_->run_bytes_max() / 4096);
  sent.push_back({0, 1100, 64});  // zeros
  sent.push_back({1, 1, 1});
  MakePusher(sent);
  StartPusher();
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.finished(); }));
  EXPECT_EQ(notes_.runs(), sent);  // each fits its bytes
  EXPECT_EQ(notes_.digests(), sent.size());
  EXPECT_TRUE(notes_.misfits().empty());
  EXPECT_FALSE(notes_.failure().has_value());
}

TEST_P(BulkLaneContract, AHeldRunKeepsItsCheckSum) {
  integrity_ = true;
  OpenLanes();
  notes_.HoldFrom(1);
  StartReceiver();
  MakePusher({{0, 0, 4}, {0, 4, 4}, {0, 1100, 2}});
  StartPusher();
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.offers() == 2; }));
  notes_.HoldFrom(std::nullopt);
  world_->RunOn(Place::kBulk, [&] { receiver_->Resume(); });
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.finished(); }));
  EXPECT_EQ(notes_.digests(), 3u);
  EXPECT_TRUE(notes_.misfits().empty());
}

// One byte of a run changes on its way, or the place that its frame names.
TEST_P(BulkLaneContract, WhatChangesOnItsWayDoesNotFit) {
  integrity_ = true;
  OpenRawLanes();
  StartReceiver();
  const PageRun run{0, 2000, 4}, elsewhere{0, 2004, 4}, zeros{0, 1100, 5};
  const std::vector<std::byte> frame = BytesOf(PageFrame{PageFrameKind::kData, run});
  const std::vector<std::byte> good =
      Checked(Join(frame, memory_.View(run)), run, memory_.View(run));
  std::vector<PageRun> misfits;
  for (size_t at : {kPageFrameBytes, kPageFrameBytes + 9999, good.size() - 1}) {
    std::vector<std::byte> changed = good;
    changed[at] ^= std::byte{0x10};
    raw_bulk_->Send(changed);
    misfits.push_back(run);
  }
  raw_bulk_->Send(
      Checked(Join(BytesOf(PageFrame{PageFrameKind::kData, elsewhere}), memory_.View(run)), run,
              memory_.View(run)));
  misfits.push_back(elsewhere);
  raw_bulk_->Send(Checked(BytesOf(PageFrame{PageFrameKind::kZero, zeros}), run, {}));
  misfits.push_back(zeros);
  raw_bulk_->Send(good);
  raw_bulk_->Send(Checked(BytesOf(PageFrame{PageFrameKind::kZero, zeros}), zeros, {}));
  raw_bulk_->Send(BytesOf(PageFrame{PageFrameKind::kFinished, {}}));
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.finished(); }));
  EXPECT_EQ(notes_.misfits(), misfits);
  EXPECT_EQ(notes_.runs(), (std::vector<PageRun>{run, zeros}));
}

// Whoever gets such a run wants no more of this lane.
TEST_P(BulkLaneContract, TheReceiverMayBeStoppedByWhoeverItOffersARun) {
  struct Stopper : PushReceiver::Listener, FailureNotes {
    bool OnRun(PageRun, std::span<const std::byte>, std::optional<uint64_t>) override {
      ++runs;
      receiver->Stop();
      return true;
    }
    void OnRoundMark(PageFrameKind, uint32_t) override { ADD_FAILURE() << "after Stop"; }
    void OnPushFinished() override { ADD_FAILURE() << "after Stop"; }
    void OnReceiverFailed(absl::Status status) override { Note(std::move(status)); }
    PushReceiver* receiver = nullptr;
    std::atomic<int> runs = 0;
  } stopper;
  OpenLanes();
  stopper.receiver = receiver_;
  world_->RunOn(Place::kBulk, [&] { receiver_->Start(&stopper); });
  MakePusher(std::vector<PageRun>(200, PageRun{0, 2000, 32}));
  StartPusher();
  ASSERT_TRUE(world_->WaitUntil([&] { return pusher_->failure().has_value(); }));
  world_->RunOn(Place::kBulk, [] {});  // it has returned
  EXPECT_EQ(stopper.runs, 1);
  EXPECT_FALSE(stopper.failure().has_value());
}

}  // namespace faultline::contract

#endif  // FAULTLINE_TESTS_CONTRACT_BULK_LANE_CONTRACT_H_
