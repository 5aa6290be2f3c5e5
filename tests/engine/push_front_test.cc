// What the push is bringing is waited for, not asked for.
#include "engine/push_front.h"

#include <gtest/gtest.h>

#include "engine/fault_handler_fixture.h"

namespace faultline {
namespace {

// 1 Gbit/s: 14 pages are on their way at a time.
class PushFrontTest : public FaultHandlerTest {
 protected:
  PushFrontTest() : FaultHandlerTest(ReadAround::OnLink(117'000'000)) {
    Serve();
    AskOnce(500);
    counters_.push_front.Note({0, 10, 10});
  }
  // The source answers one page after so long.
  void AskOnce(int64_t took_us) {
    Touch(99);
    clock_.AdvanceBy(took_us);
    reader_.Answer({0, 99}, 1);
    reader_.asked.clear();
    counters_.pages_demand = 0;
  }
  // The bulk lane puts a page in.
  void Push(uint64_t page, int value) {
    memory_.Install({0, page, 1}, Filled(1, value));
    SetState(page, PageState::kInstalled);
    clock_.RunUntilIdle();
  }
};

TEST_F(PushFrontTest, WhatThePushIsBringingIsNotAskedFor) {
  Touch(20);
  Touch(33);
  EXPECT_TRUE(reader_.asked.empty());
  Push(20, 42);
  Push(33, 43);
  EXPECT_EQ(Seen(20), 42);
  EXPECT_EQ(Seen(33), 43);
  clock_.AdvanceBy(100'000);
  EXPECT_TRUE(reader_.asked.empty());
  EXPECT_EQ(counters_.pages_demand.load(), 0u);
}

TEST_F(PushFrontTest, WhatIsBehindTheFrontOrFarAheadIsAskedFor) {
  Touch(19);
  Touch(34);
  EXPECT_EQ(reader_.asked, (std::vector<PageId>{{0, 19}, {0, 34}}));
}

TEST(PushFront, CountsFromTheEndOfWhatCameLast) {
  PushFront front;
  EXPECT_EQ(PushFront::PagesAway(front.position(), {0, 0}, 100), 0u);
  front.Note({3, 10, 10});
  EXPECT_EQ(PushFront::PagesAway(front.position(), {3, 20}, 2), 1u);
  EXPECT_EQ(PushFront::PagesAway(front.position(), {3, 21}, 2), 2u);
  EXPECT_EQ(PushFront::PagesAway(front.position(), {3, 22}, 2), 0u);
  EXPECT_EQ(PushFront::PagesAway(front.position(), {3, 19}, 2), 0u);
  EXPECT_EQ(PushFront::PagesAway(front.position(), {2, 20}, 2), 0u);
}

// Where a page is answered sooner than the link carries what is before it.
class QuickAnswersTest : public FaultHandlerTest {
 protected:
  QuickAnswersTest() : FaultHandlerTest(ReadAround::OnLink(10'000'000)) { Serve(); }
};

TEST_F(QuickAnswersTest, NothingIsAwaitedThatWouldComeSoonerIfItWasAskedFor) {
  counters_.push_front.Note({0, 10, 10});
  Touch(20);  // how long an answer takes is not known yet
  EXPECT_EQ(reader_.asked.size(), 1u);
  clock_.AdvanceBy(100);
  reader_.Answer({0, 20}, 1);
  counters_.push_front.Note({0, 20, 10});
  Touch(30);  // a page takes 410 us
  EXPECT_EQ(reader_.asked, (std::vector<PageId>{{0, 20}, {0, 30}}));
}

TEST_F(PushFrontTest, AfterAPageWasAwaitedInVainNoneIsUntilThePushGoesOn) {
  Touch(20);
  clock_.AdvanceBy(1'100);
  EXPECT_EQ(reader_.asked, (std::vector<PageId>{{0, 20}}));
  Touch(21);
  EXPECT_EQ(reader_.asked, (std::vector<PageId>{{0, 20}, {0, 21}}));
  counters_.push_front.Note({0, 20, 5});
  Touch(25);
  EXPECT_EQ(reader_.asked.size(), 2u);
}

TEST_F(PushFrontTest, WhatHasNotComeInTwiceTheTimeIsAskedFor) {
  Touch(20);
  clock_.AdvanceBy(300);
  Touch(21);
  EXPECT_TRUE(reader_.asked.empty());
  clock_.AdvanceBy(750);
  EXPECT_EQ(reader_.asked, (std::vector<PageId>{{0, 20}}));
  clock_.AdvanceBy(300);
  EXPECT_EQ(reader_.asked, (std::vector<PageId>{{0, 20}, {0, 21}}));
  reader_.Answer({0, 20}, 42);
  EXPECT_EQ(Seen(20), 42);
}

TEST_F(PushFrontTest, WhatComesAsZerosIsSeenInTime) {
  Touch(20);
  SetState(20, PageState::kAbsent);  // and nobody was woken
  EXPECT_EQ(Seen(20), -1);
  clock_.AdvanceBy(1'100);
  EXPECT_EQ(Seen(20), 0);
  EXPECT_TRUE(reader_.asked.empty());
}

TEST_F(PushFrontTest, APushThatHasEndedIsNotWaitedFor) {
  counters_.push_front.Clear();
  Touch(20);
  EXPECT_EQ(reader_.asked, (std::vector<PageId>{{0, 20}}));
}

TEST_F(PushFrontTest, TheNextConnectionIsAskedAtOnceAndOnlyOnce) {
  Touch(20);
  handler_.Disconnect();
  ManualReader next;
  handler_.Connect(&next, /*integrity=*/false);
  EXPECT_EQ(next.asked, (std::vector<PageId>{{0, 20}}));
  clock_.AdvanceBy(100'000);
  EXPECT_EQ(next.asked.size(), 1u);
  handler_.Stop();
}

TEST_F(PushFrontTest, TheRestIsFetchedPastWhatIsWaitedFor) {
  for (uint64_t page = 0; page < kPages - 1; ++page) {
    if (page < 20 || page > 33) SetState(page, PageState::kInstalled);
  }
  for (uint64_t page = 20; page < 30; ++page) Touch(page);
  handler_.FetchRest();
  EXPECT_EQ(reader_.asked.size(), 4u);
  clock_.AdvanceBy(1'100);
  EXPECT_EQ(reader_.asked.size(), 14u);
}

TEST_F(PushFrontTest, DisarmWakesWhoeverWaitsForZeros) {
  Touch(20);
  for (uint64_t page = 0; page < kPages - 1; ++page) SetState(page, PageState::kAbsent);
  EXPECT_TRUE(handler_.Disarm().ok());
  clock_.RunUntilIdle();
  EXPECT_EQ(Seen(20), 0);
}

}  // namespace
}  // namespace faultline
