// Bulk lanes: what every transport's PushLane and PushReceiver must do. Include once, then
// instantiate BulkLaneContract.
#ifndef FAULTLINE_TESTS_CONTRACT_BULK_LANE_CONTRACT_H_
#define FAULTLINE_TESTS_CONTRACT_BULK_LANE_CONTRACT_H_

#include <memory>
#include <vector>

#include "contract/transport_world.h"

namespace faultline::contract {

// Pushes a list of runs as fast as the lane takes them, then finishes.
class Pusher : public PushLane::Listener, public FailureNotes {
 public:
  explicit Pusher(std::vector<PageRun> runs) : runs_(std::move(runs)) {}
  void Start(PushLane* lane, const SourceMemory* memory) {
    lane_ = lane;
    lane_->Start(memory, this);
    OnLaneWritable();
  }
  void OnLaneWritable() override {
    std::lock_guard lock(mutex_);
    while (next_ < runs_.size()) {
      if (!lane_->TryPush(runs_[next_])) return;
      ++next_;
    }
    if (!finished_) lane_->Finish();
    finished_ = true;
  }
  void OnLaneFailed(absl::Status status) override { Note(std::move(status)); }
  size_t pushed() const {
    std::lock_guard lock(mutex_);
    return next_;
  }

 private:
  const std::vector<PageRun> runs_;
  PushLane* lane_ = nullptr;
  mutable std::mutex mutex_;
  size_t next_ = 0;
  bool finished_ = false;
};

// Takes runs, and refuses each of some runs once.
class RunNotes : public PushReceiver::Listener, public FailureNotes {
 public:
  explicit RunNotes(const TestMemory* memory) : memory_(memory) {}
  bool OnRun(PageRun run, std::span<const std::byte> bytes) override {
    std::lock_guard lock(mutex_);
    EXPECT_FALSE(finished_);
    ++offers_;
    if (hold_from_.has_value() && runs_.size() >= *hold_from_) return false;
    EXPECT_TRUE(memory_->Matches(run, bytes)) << "run from page " << run.first << " is wrong";
    runs_.push_back(run);
    return true;
  }
  void OnPushFinished() override {
    std::lock_guard lock(mutex_);
    EXPECT_FALSE(finished_) << "finished twice";
    finished_ = true;
  }
  void OnReceiverFailed(absl::Status status) override { Note(std::move(status)); }

  // After `runs` runs, all are refused.
  void HoldFrom(std::optional<size_t> runs) {
    std::lock_guard lock(mutex_);
    hold_from_ = runs;
  }
  std::vector<PageRun> runs() const {
    std::lock_guard lock(mutex_);
    return runs_;
  }
  size_t offers() const {
    std::lock_guard lock(mutex_);
    return offers_;
  }
  bool finished() const {
    std::lock_guard lock(mutex_);
    return finished_;
  }

 private:
  const TestMemory* memory_;
  mutable std::mutex mutex_;
  std::optional<size_t> hold_from_;
  std::vector<PageRun> runs_;
  size_t offers_ = 0;
  bool finished_ = false;
};

class BulkLaneContract : public TransportContract {
 protected:
  // Runs of all lengths that a lane takes, huge pages among them, in no order.
  static std::vector<PageRun> ManyRuns(uint64_t run_pages_max) {
    std::vector<PageRun> runs;
    for (uint64_t round = 0; round < 3; ++round) {
      runs.push_back({1, 2 * (round % 2), 1});
      for (uint64_t i = 0; i < 60; ++i) {
        runs.push_back({0, 1500 + (i * 613) % 2000, 1 + (i * 7) % run_pages_max});
      }
    }
    return runs;
  }

  void StartReceiver() {
    world_->RunOn(Place::kBulk, [&] { receiver_->Start(&notes_); });
  }

  RunNotes notes_{&memory_};
};

TEST_P(BulkLaneContract, AllRunsArriveWholeAndInOrderThenTheEnd) {
  OpenLanes();
  StartReceiver();
  Pusher pusher(ManyRuns(push_->run_bytes_max() / 4096));
  std::vector<PageRun> sent = ManyRuns(push_->run_bytes_max() / 4096);
  world_->RunOn(Place::kSourceBulk, [&] { pusher.Start(push_, &memory_); });
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.finished(); }));
  EXPECT_EQ(notes_.runs(), sent);
  uint64_t bytes = 0;
  for (const PageRun& run : sent) bytes += run.count * TestLayout()[run.region].page_size_bytes;
  EXPECT_GE(push_->bytes_sent(), bytes);
  EXPECT_LT(push_->bytes_sent(), bytes + bytes / 20);
  EXPECT_FALSE(pusher.failure().has_value());
  EXPECT_FALSE(notes_.failure().has_value());
}

TEST_P(BulkLaneContract, AHeldRunIsOfferedAgainAndTheSourceWaits) {
  OpenLanes();
  notes_.HoldFrom(2);
  StartReceiver();
  std::vector<PageRun> runs;
  for (uint64_t i = 0; i < 2000; ++i) runs.push_back({0, 1500 + (i * 64) % 2048, 64});
  Pusher pusher(runs);
  world_->RunOn(Place::kSourceBulk, [&] { pusher.Start(push_, &memory_); });
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.offers() == 3; }));
  world_->Settle();
  EXPECT_EQ(notes_.offers(), 3u);
  EXPECT_EQ(notes_.runs().size(), 2u);
  // 500 MiB are to be sent; what is under way is bounded by the lane and the kernel's buffers.
  EXPECT_LT(pusher.pushed(), 500u);
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
  Pusher pusher({{0, 0, 4}, {0, 4, 4}});
  world_->RunOn(Place::kSourceBulk, [&] { pusher.Start(push_, &memory_); });
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
  Pusher pusher({});
  world_->RunOn(Place::kSourceBulk, [&] { pusher.Start(push_, &memory_); });
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.finished(); }));
}

TEST_P(BulkLaneContract, AfterTheEndEitherSideMayGoWithoutAFailure) {
  OpenLanes();
  StartReceiver();
  Pusher pusher({{0, 0, 4}});
  world_->RunOn(Place::kSourceBulk, [&] { pusher.Start(push_, &memory_); });
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.finished(); }));
  world_->RunOn(Place::kBulk, [&] { receiver_->Stop(); });
  world_->Settle();
  EXPECT_FALSE(pusher.failure().has_value()) << *pusher.failure();
  EXPECT_FALSE(notes_.failure().has_value());
}

TEST_P(BulkLaneContract, ReceiverThatGoesBeforeTheEndFailsTheLane) {
  OpenLanes();
  notes_.HoldFrom(1);
  StartReceiver();
  std::vector<PageRun> runs(2000, PageRun{0, 2000, 64});
  Pusher pusher(runs);
  world_->RunOn(Place::kSourceBulk, [&] { pusher.Start(push_, &memory_); });
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.offers() == 2; }));
  world_->RunOn(Place::kBulk, [&] { receiver_->Stop(); });
  ASSERT_TRUE(world_->WaitUntil([&] { return pusher.failure().has_value(); }));
  EXPECT_TRUE(absl::IsUnavailable(*pusher.failure())) << *pusher.failure();
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

TEST_P(BulkLaneContract, StopWithARunUnderWay) {
  OpenLanes();
  notes_.HoldFrom(0);
  StartReceiver();
  Pusher pusher(std::vector<PageRun>(100, PageRun{1, 0, 1}));
  world_->RunOn(Place::kSourceBulk, [&] { pusher.Start(push_, &memory_); });
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.offers() == 1; }));
  world_->RunOn(Place::kSourceBulk, [&] { push_->Stop(); });
  world_->RunOn(Place::kBulk, [&] { receiver_->Stop(); });
  world_->Settle();
  EXPECT_FALSE(pusher.failure().has_value());
  EXPECT_FALSE(notes_.failure().has_value());
}

}  // namespace faultline::contract

#endif  // FAULTLINE_TESTS_CONTRACT_BULK_LANE_CONTRACT_H_
