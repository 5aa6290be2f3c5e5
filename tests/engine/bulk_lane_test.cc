// Both ends of the bulk lane: what is pushed, and what becomes of it.

#include <gtest/gtest.h>

#include "engine/bulk_receiver.h"
#include "engine/lane_fixture.h"
#include "engine/pusher.h"
#include "fakes/fake_push_order.h"
#include "fakes/fake_source_memory.h"
#include "pages/page_digest.h"

namespace faultline {
namespace {

class BulkReceiverTest : public LaneTest {
 protected:
  void SetUp() override { bulk_.Start(&receiver_, /*integrity=*/false); }

  ManualReceiver receiver_;
  BulkReceiver bulk_{&executor_, &memory_, &gate_, &counters_, &listener_};
};

TEST_F(BulkReceiverTest, InstallsARun) {
  receiver_.Push({0, 10, 50}, Filled(50, 7));  // more than one pass
  EXPECT_TRUE(receiver_.taken);
  for (uint64_t page = 0; page < kPages; ++page) {
    bool pushed = page >= 10 && page < 60;
    EXPECT_EQ(Value(page), pushed ? 7 : -2);
    EXPECT_EQ(StateOf(page), pushed ? PageState::kInstalled : PageState::kMissing);
  }
  EXPECT_EQ(counters_.pages_pushed.load(), 50u);
  EXPECT_EQ(listener_.all_present, 0);
}

TEST_F(BulkReceiverTest, ZeroPagesTakeNoMemory) {
  SetState(11, PageState::kDiscarded);
  SetState(12, PageState::kInstalled);
  receiver_.Push({0, 10, 6}, {});
  EXPECT_TRUE(receiver_.taken);
  for (uint64_t page = 10; page < 16; ++page) EXPECT_EQ(Value(page), -2) << page;
  EXPECT_EQ(StateOf(10), PageState::kAbsent);
  EXPECT_EQ(StateOf(11), PageState::kDiscarded);
  EXPECT_EQ(StateOf(12), PageState::kInstalled);
  EXPECT_EQ(StateOf(15), PageState::kAbsent);
  EXPECT_EQ(counters_.pages_pushed.load(), 4u);
  EXPECT_EQ(listener_.all_present, 0);
  receiver_.Push({0, 0, kPages}, {});
  EXPECT_EQ(listener_.all_present, 1);
}

TEST_F(BulkReceiverTest, WhoWaitsForAZeroPageFaultsAgain) {
  memory_.Touch({0, 12});
  MemoryEvents events;
  ASSERT_TRUE(memory_.ReadEvents(&events).ok());
  ASSERT_EQ(events.faults, (std::vector<PageId>{{0, 12}}));
  events.Clear();
  receiver_.Push({0, 10, 6}, {});
  ASSERT_TRUE(memory_.ReadEvents(&events).ok());
  EXPECT_EQ(events.faults, (std::vector<PageId>{{0, 12}}));
}

TEST_F(BulkReceiverTest, SaysWhereThePushIs) {
  const auto pages_away = [this](uint64_t page) {
    return PushFront::PagesAway(counters_.push_front.position(), {0, page}, 8);
  };
  EXPECT_EQ(pages_away(16), 0u);
  receiver_.Push({0, 10, 6}, Filled(6, 7));
  EXPECT_EQ(pages_away(16), 1u);
  receiver_.Push({0, 16, 4}, {});
  EXPECT_EQ(pages_away(20), 1u);
  receiver_.Finish();
  EXPECT_EQ(pages_away(20), 0u);
  receiver_.Push({0, 20, 2}, Filled(2, 7));
  EXPECT_EQ(pages_away(22), 1u);
  bulk_.Stop();
  EXPECT_EQ(pages_away(22), 0u);
}

TEST_F(BulkReceiverTest, LeavesAloneWhatIsNotMissing) {
  SetState(11, PageState::kDiscarded);
  SetState(12, PageState::kAbsent);
  SetState(14, PageState::kInstalled);  // and punched since
  receiver_.Push({0, 10, 6}, Filled(6, 7));
  EXPECT_TRUE(receiver_.taken);
  const std::vector<int> expected = {7, -2, -2, 7, -2, 7};
  for (uint64_t i = 0; i < 6; ++i) EXPECT_EQ(Value(10 + i), expected[i]) << i;
  EXPECT_EQ(counters_.pages_pushed.load(), 3u);
}

// The demand lane has put it in and not yet said so.
TEST_F(BulkReceiverTest, GoesOnAfterAPageThatIsThereAlready) {
  memory_.Install({0, 12, 1}, Filled(1, 9));
  memory_.Install({0, 15, 1}, Filled(1, 9));
  receiver_.Push({0, 10, 6}, Filled(6, 7));
  EXPECT_TRUE(receiver_.taken);
  const std::vector<int> expected = {7, 7, 9, 7, 7, 9};
  for (uint64_t i = 0; i < 6; ++i) {
    EXPECT_EQ(Value(10 + i), expected[i]) << i;
    EXPECT_EQ(StateOf(10 + i), PageState::kInstalled);
  }
}

TEST_F(BulkReceiverTest, TriesTheRestOfARunAgain) {
  receiver_.Push({0, 0, 3}, Filled(3, 7));
  memory_.DiscardByGuest({0, 50, 1});  // not read yet: installing is refused
  receiver_.Push({0, 0, 40}, Filled(40, 8));
  EXPECT_FALSE(receiver_.taken);
  MemoryEvents events;
  ASSERT_TRUE(memory_.ReadEvents(&events).ok());
  clock_.AdvanceBy(2000);
  EXPECT_TRUE(receiver_.taken);
  EXPECT_EQ(Value(2), 7);
  EXPECT_EQ(Value(3), 8);
  EXPECT_TRUE(listener_.out_of_memory.empty());
}

TEST_F(BulkReceiverTest, WaitsForRoom) {
  memory_.FailInstalls(InstallOutcome::kNoSpace, 1, ENOSPC);
  receiver_.Push({0, 0, 4}, Filled(4, 7));
  EXPECT_FALSE(receiver_.taken);
  memory_.FailInstalls(InstallOutcome::kRetry, 1, EAGAIN);
  memory_.FailInstalls(InstallOutcome::kNoSpace, 1, ENOSPC);
  clock_.AdvanceBy(1'000'000);
  EXPECT_TRUE(receiver_.taken);
  EXPECT_EQ(listener_.out_of_memory, (std::vector<bool>{true, false}));
  EXPECT_EQ(Value(3), 7);
}

TEST_F(BulkReceiverTest, SaysWhenNothingIsMissing) {
  receiver_.Push({0, 0, kPages}, Filled(kPages, 7));
  EXPECT_GE(listener_.all_present, 1);
}

class CheckingBulkReceiverTest : public BulkReceiverTest {
 protected:
  void SetUp() override { bulk_.Start(&receiver_, /*integrity=*/true); }
};

TEST_F(CheckingBulkReceiverTest, InstallsWhatFits) {
  receiver_.digest_of_next = DigestOfRun({0, 10, 3}, Filled(3, 7));
  receiver_.Push({0, 10, 3}, Filled(3, 7));
  receiver_.digest_of_next = DigestOfRun({0, 20, 3}, {});
  receiver_.Push({0, 20, 3}, {});
  EXPECT_EQ(Value(12), 7);
  EXPECT_EQ(StateOf(22), PageState::kAbsent);
  EXPECT_TRUE(listener_.mismatches.empty());
  EXPECT_FALSE(receiver_.stopped);
}

TEST_F(CheckingBulkReceiverTest, InstallsNothingOfARunOfWhichOneByteChanged) {
  std::vector<std::byte> bytes = Filled(3, 7);
  receiver_.digest_of_next = DigestOfRun({0, 10, 3}, bytes);
  bytes[2 * 4096 + 17] ^= std::byte{4};
  receiver_.Push({0, 10, 3}, bytes);
  for (uint64_t page = 10; page < 13; ++page) {
    EXPECT_EQ(Value(page), -2);
    EXPECT_EQ(StateOf(page), PageState::kMissing);
  }
  EXPECT_EQ(listener_.mismatches, (std::vector<PageRun>{{0, 10, 3}}));
  EXPECT_TRUE(receiver_.stopped);  // such a lane brings nothing more
  EXPECT_TRUE(listener_.failure.ok() && listener_.lane_failure.ok());
}

TEST_F(CheckingBulkReceiverTest, NotesNoZerosThatDoNotFit) {
  receiver_.digest_of_next = DigestOfRun({0, 10, 4}, {});
  receiver_.Push({0, 10, 5}, {});
  EXPECT_EQ(StateOf(10), PageState::kMissing);
  EXPECT_EQ(listener_.mismatches.size(), 1u);
}

TEST_F(CheckingBulkReceiverTest, TakesNothingThatHasNoCheckSum) {
  receiver_.Push({0, 10, 3}, Filled(3, 7));
  EXPECT_EQ(Value(10), -2);
  EXPECT_EQ(listener_.mismatches.size(), 1u);
}

TEST_F(BulkReceiverTest, ReportsFailures) {
  memory_.FailInstalls(InstallOutcome::kFailed, 1, EINVAL);
  receiver_.Push({0, 4, 1}, Filled(1, 7));
  EXPECT_NE(MessageOf(listener_.failure).find("install page 4 of RAM block 'ram'"),
            std::string::npos);
  receiver_.Fail(absl::UnavailableError("reset by peer"));
  EXPECT_EQ(MessageOf(listener_.lane_failure), "bulk lane: reset by peer");
}

TEST_F(BulkReceiverTest, StopEndsTheWaiting) {
  memory_.FailInstalls(InstallOutcome::kNoSpace, 1, ENOSPC);
  receiver_.Push({0, 0, 4}, Filled(4, 7));
  bulk_.Stop();
  clock_.AdvanceBy(1'000'000);
  EXPECT_EQ(receiver_.offers, 1);
  EXPECT_TRUE(receiver_.stopped);
  // Nothing waits for room any more, so nobody may be kept waiting for it.
  EXPECT_EQ(listener_.out_of_memory, (std::vector<bool>{true, false}));
}

TEST_F(BulkReceiverTest, GoesOnWithAnotherLane) {
  receiver_.Push({0, 0, 4}, Filled(4, 7));
  bulk_.Stop();
  ManualReceiver next;
  bulk_.Start(&next, /*integrity=*/false);
  next.Push({0, 2, 4}, Filled(4, 8));
  EXPECT_TRUE(next.taken);
  EXPECT_EQ(Value(3), 7);
  EXPECT_EQ(Value(5), 8);
}

class RoundReceiverTest : public BulkReceiverTest {
 protected:
  RoundReceiverTest() { bulk_.AllowRounds(true); }
  void Begin(uint32_t round) { receiver_.Mark(PageFrameKind::kRoundBegin, round); }
  void End(uint32_t round) { receiver_.Mark(PageFrameKind::kRoundEnd, round); }
};

TEST_F(RoundReceiverTest, ALaterRoundTakesThePlaceOfAnEarlierOne) {
  Begin(1);
  receiver_.Push({0, 0, 4}, Filled(4, 7));
  receiver_.Push({0, 4, 2}, {});
  End(1);
  EXPECT_EQ(listener_.rounds, std::vector<uint32_t>{1});
  Begin(2);
  receiver_.Push({0, 2, 4}, Filled(4, 8));  // over two that are there and two that were zero
  receiver_.Push({0, 0, 1}, {});            // zero now
  End(2);
  EXPECT_EQ(listener_.rounds, (std::vector<uint32_t>{1, 2}));
  EXPECT_EQ(Value(1), 7);
  for (uint64_t page : {2, 3, 4, 5}) EXPECT_EQ(Value(page), 8) << page;
  EXPECT_EQ(StateOf(0), PageState::kAbsent);
  EXPECT_EQ(Value(0), -2) << "it takes no memory";
  EXPECT_EQ(StateOf(4), PageState::kInstalled);
  EXPECT_EQ(counters_.pages_precopied, 4u + 2 + 4 + 1);
  EXPECT_EQ(counters_.pages_pushed, 0u);
}

TEST_F(RoundReceiverTest, AfterTheRoundsWhatIsThereStays) {
  Begin(1);
  receiver_.Push({0, 0, 4}, Filled(4, 7));
  End(1);
  receiver_.Push({0, 2, 4}, Filled(4, 8));
  EXPECT_EQ(Value(3), 7);
  EXPECT_EQ(Value(4), 8);
  EXPECT_EQ(counters_.pages_pushed, 2u);
}

TEST_F(RoundReceiverTest, ARoundThatIsHeldForWantOfMemoryIsPutInLater) {
  Begin(1);
  memory_.FailInstalls(InstallOutcome::kNoSpace, 1);
  receiver_.Push({0, 0, 4}, Filled(4, 7));
  EXPECT_FALSE(receiver_.taken);
  clock_.AdvanceBy(1'000'000);
  EXPECT_TRUE(receiver_.taken);
  End(1);
  EXPECT_EQ(Value(3), 7);
}

TEST_F(RoundReceiverTest, NobodyTakesTheVmForWholeInTheMiddleOfIt) {
  Begin(1);
  receiver_.Push({0, 0, kPages}, Filled(kPages, 7));
  End(1);
  EXPECT_EQ(memory_.table().missing_pages(), 0u);
  EXPECT_EQ(listener_.all_present, 0);
}

TEST_F(RoundReceiverTest, MarksOutOfTurnBreakTheLane) {
  const PageFrameKind begin = PageFrameKind::kRoundBegin;
  const PageFrameKind end = PageFrameKind::kRoundEnd;
  using Marks = std::vector<std::pair<PageFrameKind, uint32_t>>;
  for (const Marks& marks :
       {Marks{{end, 1}}, Marks{{begin, 1}, {begin, 2}}, Marks{{begin, 2}, {end, 1}},
        Marks{{begin, 2}, {end, 2}, {begin, 2}}}) {
    ManualReceiver lane;
    RecordingTransfer heard;
    BulkReceiver bulk(&executor_, &memory_, &gate_, &counters_, &heard);
    bulk.AllowRounds(true);
    bulk.Start(&lane, /*integrity=*/false);
    for (const auto& [mark, round] : marks) {
      EXPECT_TRUE(heard.lane_failure.ok());
      lane.Mark(mark, round);
    }
    EXPECT_TRUE(absl::IsInvalidArgument(heard.lane_failure));
    EXPECT_TRUE(lane.stopped);
  }
}

TEST_F(RoundReceiverTest, OnceTheVmStandsStillNoRoundBegins) {
  EXPECT_TRUE(bulk_.EndRounds().ok());
  Begin(1);
  EXPECT_TRUE(absl::IsInvalidArgument(listener_.lane_failure));
}

// What is pushed later would take the place of what the guest has written.
TEST_F(RoundReceiverTest, ARoundThatIsOpenOnceTheVmStandsStillBreaksIt) {
  Begin(1);
  const absl::Status ended = bulk_.EndRounds();
  EXPECT_TRUE(absl::IsInvalidArgument(ended)) << ended;
  EXPECT_TRUE(receiver_.stopped);
}

TEST_F(RoundReceiverTest, ARoundEndsWithItsLane) {
  Begin(1);
  receiver_.Push({0, 0, 4}, Filled(4, 7));
  bulk_.Stop();
  ManualReceiver next;
  bulk_.Start(&next, /*integrity=*/false);
  next.Push({0, 2, 4}, Filled(4, 8));
  EXPECT_EQ(Value(3), 7);
  EXPECT_EQ(Value(5), 8);
}

// Takes a few runs, then no more until it is drained.
class ManualLane : public PushLane {
 public:
  void Start(const SourceMemory*, Listener* listener) override { listener_ = listener; }
  uint64_t run_bytes_max() const override { return 4 * 4096; }
  bool TryPush(PageRun run) override {
    if (room_ == 0) return false;
    --room_;
    pushed.push_back(run);
    return true;
  }
  bool TryMark(PageFrameKind mark, uint32_t round) override {
    if (room_ == 0) return false;
    --room_;
    marks.emplace_back(mark, round);
    return true;
  }
  void Finish() override { ++finished; }
  uint64_t bytes_sent() const override { return 0; }
  void Stop() override { stopped = true; }

  void MakeRoom(int runs) {
    room_ = runs;
    listener_->OnLaneWritable();
  }
  void Fail(const absl::Status& status) { listener_->OnLaneFailed(status); }

  std::vector<PageRun> pushed;
  std::vector<std::pair<PageFrameKind, uint32_t>> marks;
  int finished = 0;
  bool stopped = false;

 private:
  int room_ = 0;
  Listener* listener_ = nullptr;
};

class PusherTest : public testing::Test {
 protected:
  PusherTest() : memory_({{"ram", 20 * 4096, 4096}}) {
    for (uint64_t page = 0; page < 10; ++page) memory_.Fill({0, page}, std::byte{1});
    map_ = memory_.ReadAllocationMap().value();
  }

  FakeSourceMemory memory_;
  AllocationMap map_;
  ManualLane lane_;
  absl::Status failure_;
  Pusher pusher_{std::make_unique<FakePushOrder>(), [this](absl::Status s) { failure_ = s; }};
};

TEST_F(PusherTest, PushesEverythingOnce) {
  pusher_.Start(&lane_, &memory_, &map_);
  EXPECT_TRUE(lane_.pushed.empty());
  lane_.MakeRoom(1);
  lane_.MakeRoom(1);
  EXPECT_EQ(lane_.finished, 0);
  lane_.MakeRoom(10);
  EXPECT_EQ(lane_.pushed, (std::vector<PageRun>{{0, 0, 4}, {0, 4, 4}, {0, 8, 2}}));
  EXPECT_EQ(lane_.finished, 1);
  lane_.MakeRoom(10);
  EXPECT_EQ(lane_.finished, 1);
}

TEST_F(PusherTest, LeavesOutWhatWasAskedFor) {
  pusher_.OnDemand({0, 0});  // while the devices were loaded, before the start
  pusher_.Start(&lane_, &memory_, &map_);
  pusher_.OnDemand({0, 5});
  lane_.MakeRoom(10);
  EXPECT_EQ(lane_.pushed, (std::vector<PageRun>{{0, 1, 4}, {0, 6, 4}}));
}

TEST_F(PusherTest, NothingToPush) {
  map_ = AllocationMap(1);
  pusher_.Start(&lane_, &memory_, &map_);
  EXPECT_EQ(lane_.finished, 1);
}

TEST_F(PusherTest, GoesOnWithAnotherLaneAndAnotherMap) {
  pusher_.Start(&lane_, &memory_, &map_);
  lane_.MakeRoom(1);
  pusher_.OnDemand({0, 9});  // the answer may be lost with the lane
  pusher_.Stop();
  ManualLane next;
  AllocationMap rest(1);
  rest[0].Add(6, 10);
  pusher_.Start(&next, &memory_, &rest);
  next.MakeRoom(10);
  EXPECT_EQ(next.pushed, (std::vector<PageRun>{{0, 6, 4}}));
  EXPECT_EQ(next.finished, 1);
  EXPECT_EQ(lane_.pushed.size(), 1u);
}

TEST_F(PusherTest, PushesARoundInPartsBetweenItsMarks) {
  using Mark = std::pair<PageFrameKind, uint32_t>;
  PageSet first(memory_.layout());
  PageSet second(memory_.layout());
  first.Add({0, 1, 5});
  second.Add({0, 8, 1});
  int pushed = 0;
  pusher_.PushPart(&lane_, &memory_, {.round = 3, .begins = true, .ends = false, .pages = first},
                   [&] { ++pushed; });
  lane_.MakeRoom(2);
  EXPECT_EQ(lane_.marks, (std::vector<Mark>{{PageFrameKind::kRoundBegin, 3}}));
  EXPECT_EQ(lane_.pushed, (std::vector<PageRun>{{0, 1, 4}}));
  lane_.MakeRoom(1);
  EXPECT_EQ(pushed, 1);
  pusher_.PushPart(&lane_, &memory_, {.round = 3, .begins = false, .ends = true, .pages = second},
                   [&] { ++pushed; });
  lane_.MakeRoom(1);
  EXPECT_EQ(pushed, 1) << "not before the end is marked";
  lane_.MakeRoom(1);
  EXPECT_EQ(pushed, 2);
  EXPECT_EQ(lane_.pushed, (std::vector<PageRun>{{0, 1, 4}, {0, 5, 1}, {0, 8, 1}}));
  EXPECT_EQ(lane_.marks.back(), (Mark{PageFrameKind::kRoundEnd, 3}));
  EXPECT_EQ(lane_.finished, 0);
  pusher_.Start(&lane_, &memory_, &map_);
  lane_.MakeRoom(10);
  EXPECT_EQ(lane_.finished, 1);
}

TEST_F(PusherTest, ReportsALaneThatBreaks) {
  pusher_.Start(&lane_, &memory_, &map_);
  lane_.Fail(absl::UnavailableError("reset by peer"));
  EXPECT_EQ(MessageOf(failure_), "bulk lane: reset by peer");
  pusher_.Stop();
  EXPECT_TRUE(lane_.stopped);
}

}  // namespace
}  // namespace faultline
