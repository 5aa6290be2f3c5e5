#include "engine/fault_handler.h"

#include <gtest/gtest.h>

#include "engine/fault_handler_fixture.h"
#include "pages/page_digest.h"

namespace faultline {
namespace {

TEST_F(FaultHandlerTest, FetchesAMissingPage) {
  Serve();
  Touch(7);
  EXPECT_EQ(reader_.asked, (std::vector<PageId>{{0, 7}}));
  EXPECT_EQ(Seen(7), -1);
  clock_.AdvanceBy(300);
  reader_.Answer({0, 7}, 42);
  EXPECT_EQ(Seen(7), 42);
  EXPECT_EQ(StateOf(7), PageState::kInstalled);
  EXPECT_EQ(counters_.pages_demand.load(), 1u);
  EXPECT_EQ(counters_.faults.load(), 1u);
  EXPECT_EQ(counters_.fault_latency_us.Summarize().max, 300u);
  EXPECT_EQ(counters_.fault_stages.read_to_sent_ns.Summarize().max, 0u);
  EXPECT_EQ(counters_.fault_stages.sent_to_answered_ns.Summarize().max, 300'000u);
  EXPECT_EQ(counters_.fault_stages.answered_to_installed_ns.Summarize().max, 0u);
}

TEST_F(FaultHandlerTest, APageThatIsZeroOnTheSource) {
  Serve();
  Touch(7);
  reader_.AnswerZero({0, 7});
  EXPECT_EQ(Seen(7), 0);
  EXPECT_EQ(StateOf(7), PageState::kInstalled);
}

TEST_F(FaultHandlerTest, AbsentDiscardedAndPunchedPagesAreZeroAndNotFetched) {
  Serve();
  SetState(1, PageState::kAbsent);
  SetState(2, PageState::kDiscarded);
  SetState(3, PageState::kInstalled);  // but not there: punched
  for (uint64_t page : {1, 2, 3}) {
    Touch(page);
    EXPECT_EQ(Seen(page), 0);
  }
  EXPECT_TRUE(reader_.asked.empty());
  EXPECT_EQ(counters_.pages_demand.load(), 0u);
  EXPECT_EQ(StateOf(1), PageState::kAbsent);
}

TEST_F(FaultHandlerTest, APageThatTheMapCallsAbsentWhileItIsFetched) {
  Serve();
  Touch(1);
  EXPECT_EQ(reader_.asked, (std::vector<PageId>{{0, 1}}));
  SetState(1, PageState::kAbsent);
  EXPECT_EQ(Seen(1), -1);
  reader_.AnswerZero({0, 1});
  EXPECT_EQ(Seen(1), 0);
  EXPECT_EQ(StateOf(1), PageState::kAbsent);
}

// The bulk lane has brought 16 MiB in 10 ms: 49 KiB in 30 us, half of it believed at first.
class ReadAroundTest : public FaultHandlerTest {
 protected:
  ReadAroundTest() : FaultHandlerTest(ReadAround::Automatic()) {
    Serve();
    clock_.AdvanceBy(10'000);
    Touch(63);
    reader_.asked.clear();
    counters_.pages_pushed = 4096;
    clock_.AdvanceBy(10'000);
  }
};

TEST_F(ReadAroundTest, APageBringsItsNeighborsWhereTheLinkIsFast) {
  SetState(1, PageState::kInstalled);
  Touch(3);
  EXPECT_EQ(reader_.asked, (std::vector<PageId>{{0, 3}, {0, 0}, {0, 2}}));
  Touch(2);  // on its way
  EXPECT_EQ(reader_.asked.size(), 3u);
  for (uint64_t page : {3, 0, 2}) reader_.Answer({0, page}, 40 + static_cast<int>(page));
  EXPECT_EQ(Seen(3), 43);
  EXPECT_EQ(Seen(2), 42);
  EXPECT_EQ(Value(0), 40);
  EXPECT_EQ(StateOf(0), PageState::kInstalled);
  EXPECT_EQ(counters_.pages_demand.load(), 3u);
  EXPECT_EQ(counters_.fault_latency_us.Summarize().count, 2u);
}

TEST_F(ReadAroundTest, ANeighborThatIsPushedMeanwhileIsLeftAlone) {
  Touch(5);
  EXPECT_EQ(reader_.asked, (std::vector<PageId>{{0, 5}, {0, 4}, {0, 6}, {0, 7}}));
  memory_.Install({0, 4, 1}, Filled(1, 44));
  SetState(4, PageState::kInstalled);
  ASSERT_TRUE(memory_.Write({0, 4}, std::byte{9}));
  Discard({0, 6, 1});
  for (uint64_t page : {5, 4, 6, 7}) reader_.Answer({0, page}, 40 + static_cast<int>(page));
  EXPECT_EQ(Value(4), 9);
  EXPECT_EQ(StateOf(6), PageState::kDiscarded);
  EXPECT_EQ(Value(6), -2);
  EXPECT_EQ(Value(7), 47);
  EXPECT_EQ(counters_.pages_demand.load(), 2u);
}

// They come with the push.
TEST_F(ReadAroundTest, NeighborsAreNotAskedForAgainOnTheNextConnection) {
  Touch(5);
  handler_.Disconnect();
  ManualReader next;
  handler_.Connect(&next, /*integrity=*/false);
  EXPECT_EQ(next.asked, (std::vector<PageId>{{0, 63}, {0, 5}}));
  handler_.Stop();
}

TEST_F(FaultHandlerTest, AsksOnceHoweverManyWait) {
  Serve();
  Touch(7);
  Touch(7);
  EXPECT_EQ(reader_.asked.size(), 1u);
  reader_.Answer({0, 7}, 42);
  EXPECT_EQ(memory_.waiting_count(), 0u);
  EXPECT_EQ(counters_.pages_demand.load(), 1u);
}

TEST_F(FaultHandlerTest, AnswersNobodyAskedForAreDropped) {
  Serve();
  reader_.Answer({0, 7}, 42);
  EXPECT_EQ(Value(7), -2);
  Touch(8);
  reader_.Answer({0, 8}, 1);
  ASSERT_TRUE(memory_.Write({0, 8}, std::byte{9}));
  reader_.Answer({0, 8}, 1);
  EXPECT_EQ(Value(8), 9);
}

TEST_F(FaultHandlerTest, AnAnswerAfterAPushNeverOverwrites) {
  Serve();
  Touch(7);
  memory_.Install({0, 7, 1}, Filled(1, 42));
  SetState(7, PageState::kInstalled);
  EXPECT_EQ(Seen(7), 42);
  ASSERT_TRUE(memory_.Write({0, 7}, std::byte{9}));
  reader_.Answer({0, 7}, 42);
  EXPECT_EQ(Value(7), 9);
  EXPECT_EQ(counters_.pages_demand.load(), 0u);
}

// The push has landed and its state has not been set yet.
TEST_F(FaultHandlerTest, AnAnswerInTheMiddleOfAPush) {
  Serve();
  Touch(7);
  memory_.Install({0, 7, 1}, Filled(1, 42));
  ASSERT_TRUE(memory_.Write({0, 7}, std::byte{9}));
  reader_.Answer({0, 7}, 42);
  EXPECT_EQ(Value(7), 9);
  EXPECT_EQ(StateOf(7), PageState::kInstalled);
}

TEST_F(FaultHandlerTest, ADiscardWhileTheAnswerIsUnderWay) {
  Serve();
  Touch(7);
  Discard({0, 0, 10});
  EXPECT_EQ(StateOf(7), PageState::kDiscarded);
  EXPECT_EQ(counters_.pages_discarded.load(), 10u);
  reader_.Answer({0, 7}, 42);
  EXPECT_EQ(Seen(7), 0);
  EXPECT_EQ(StateOf(7), PageState::kDiscarded);
}

TEST_F(FaultHandlerTest, ADiscardTakesALateCopyOutAgain) {
  Serve();
  memory_.DiscardByGuest({0, 7, 1});
  clock_.RunUntilIdle();
  // Copied between the guest's punch and the event: the fake refuses that, so it lands now, and
  // the event comes a second time.
  memory_.Install({0, 8, 1}, Filled(1, 42));
  SetState(8, PageState::kInstalled);
  Discard({0, 7, 2});
  EXPECT_EQ(Value(8), -2);
  Touch(8);
  EXPECT_EQ(Seen(8), 0);
}

TEST_F(FaultHandlerTest, TriesAgainWhileTheMappingChanges) {
  Serve();
  Touch(7);
  memory_.FailInstalls(InstallOutcome::kRetry, 2, EAGAIN);
  reader_.Answer({0, 7}, 42);
  EXPECT_EQ(Seen(7), -1);
  clock_.AdvanceBy(3000);
  EXPECT_EQ(Seen(7), 42);
  EXPECT_EQ(counters_.pages_demand.load(), 1u);
  EXPECT_EQ(reader_.asked.size(), 1u);
  EXPECT_TRUE(listener_.out_of_memory.empty());
}

TEST_F(FaultHandlerTest, AZeroPageIsTriedAgainToo) {
  Serve();
  SetState(7, PageState::kAbsent);
  memory_.FailInstalls(InstallOutcome::kRetry, 2, EAGAIN);
  Touch(7);
  EXPECT_EQ(Seen(7), -1);
  clock_.AdvanceBy(3000);
  EXPECT_EQ(Seen(7), 0);
}

TEST_F(FaultHandlerTest, ADiscardWhileTheAnswerIsDeferred) {
  Serve();
  Touch(7);
  memory_.FailInstalls(InstallOutcome::kRetry, 1, EAGAIN);
  reader_.Answer({0, 7}, 42);
  Discard({0, 7, 1});
  clock_.AdvanceBy(3000);
  EXPECT_EQ(Seen(7), 0);
}

TEST_F(FaultHandlerTest, WaitsForRoom) {
  Serve();
  Touch(7);
  Touch(8);
  memory_.FailInstalls(InstallOutcome::kNoSpace, 4, ENOSPC);
  reader_.Answer({0, 7}, 42);
  reader_.Answer({0, 8}, 43);
  EXPECT_EQ(listener_.out_of_memory, (std::vector<bool>{true}));
  clock_.AdvanceBy(1'000'000);
  EXPECT_EQ(Seen(7), 42);
  EXPECT_EQ(Seen(8), 43);
  EXPECT_EQ(listener_.out_of_memory, (std::vector<bool>{true, false}));
}

// A page that is there already says nothing about room, but when nothing is left to put in there is
// no lack of it.
TEST_F(FaultHandlerTest, RoomThatIsNotNeededAnyMore) {
  Serve();
  Touch(7);
  memory_.FailInstalls(InstallOutcome::kNoSpace, 1, ENOSPC);
  reader_.Answer({0, 7}, 42);
  memory_.Install({0, 7, 1}, Filled(1, 42));
  SetState(7, PageState::kInstalled);
  clock_.AdvanceBy(1'000'000);
  EXPECT_EQ(listener_.out_of_memory, (std::vector<bool>{true, false}));
}

TEST_F(FaultHandlerTest, APresentPageDoesNotEndTheLackOfMemory) {
  Serve();
  Touch(7);
  Touch(8);
  memory_.FailInstalls(InstallOutcome::kNoSpace, 1, ENOSPC);
  reader_.Answer({0, 7}, 42);
  memory_.Install({0, 8, 1}, Filled(1, 43));
  reader_.Answer({0, 8}, 43);
  EXPECT_EQ(listener_.out_of_memory, (std::vector<bool>{true}));
}

TEST_F(FaultHandlerTest, SaysWhenNothingIsMissing) {
  Serve();
  for (uint64_t page = 1; page < kPages; ++page) SetState(page, PageState::kAbsent);
  Touch(0);
  EXPECT_EQ(listener_.all_present, 0);
  reader_.Answer({0, 0}, 1);
  EXPECT_GE(listener_.all_present, 1);
}

TEST_F(FaultHandlerTest, SaysWhenADiscardTookTheLastMissingPage) {
  Serve();
  for (uint64_t page = 1; page < kPages; ++page) SetState(page, PageState::kAbsent);
  Discard({0, 0, 1});
  EXPECT_GE(listener_.all_present, 1);
}

TEST_F(FaultHandlerTest, FetchesTheRest) {
  Serve();
  for (uint64_t page = 0; page < kPages; page += 2) SetState(page, PageState::kInstalled);
  Touch(1);
  handler_.FetchRest();
  for (size_t i = 0; i < reader_.asked.size(); ++i) reader_.Answer(reader_.asked[i], 5);
  EXPECT_EQ(reader_.asked.size(), kPages / 2);
  EXPECT_EQ(memory_.table().missing_pages(), 0u);
  EXPECT_GE(listener_.all_present, 1);
  EXPECT_EQ(counters_.fault_latency_us.Summarize().count, 1u);  // only the guest's own
}

TEST_F(FaultHandlerTest, FetchesTheRestOnlyAFewAtATime) {
  Serve();
  handler_.FetchRest();
  EXPECT_EQ(reader_.asked.size(), 64u);
  reader_.Answer(reader_.asked[0], 5);
  EXPECT_EQ(reader_.asked.size(), 65u);
}

// This once hung: nothing was in flight any more, so no answer came that would have asked on.
TEST_F(FaultHandlerTest, FetchesTheRestAfterAllOfItWasDeferred) {
  Serve();
  handler_.FetchRest();
  memory_.FailInstalls(InstallOutcome::kNoSpace, 64, ENOSPC);
  for (size_t i = 0; i < 64; ++i) reader_.Answer(reader_.asked[i], 5);
  clock_.AdvanceBy(1'000'000);
  EXPECT_EQ(reader_.asked.size(), kPages);
}

TEST_F(FaultHandlerTest, RestPagesThatTheGuestTouchesThenAreItsFaults) {
  Serve();
  handler_.FetchRest();
  Touch(5);
  EXPECT_EQ(reader_.asked.size(), 64u);
  clock_.AdvanceBy(70);
  reader_.Answer({0, 5}, 5);
  EXPECT_EQ(Seen(5), 5);
  EXPECT_EQ(counters_.fault_latency_us.Summarize().max, 70u);
}

TEST_F(FaultHandlerTest, DisarmLetsGoOfEverybodyAndKeepsTheLaneOpen) {
  Serve();
  for (uint64_t page = 0; page < kPages; ++page) SetState(page, PageState::kAbsent);
  bool returned = false;
  memory_.Touch({0, 3});
  memory_.DiscardByGuest({0, 4, 1}, [&] { returned = true; });
  EXPECT_TRUE(handler_.Disarm().ok());
  EXPECT_TRUE(returned);
  EXPECT_EQ(memory_.waiting_count(), 0u);
  EXPECT_FALSE(reader_.stopped);
  reader_.Fail(absl::UnavailableError("closed"));
  EXPECT_TRUE(listener_.lane_failure.ok());
  clock_.AdvanceBy(100'000);
  handler_.Stop();
  EXPECT_TRUE(reader_.stopped);
}

TEST_F(FaultHandlerTest, StopLeavesMemoryArmed) {
  Serve();
  Touch(7);
  handler_.Stop();
  Touch(8);
  EXPECT_EQ(reader_.asked.size(), 1u);
  EXPECT_EQ(memory_.waiting_count(), 2u);
  EXPECT_FALSE(memory_.disarmed());
  clock_.AdvanceBy(1'000'000);
}

TEST_F(FaultHandlerTest, ReportsFailures) {
  Serve();
  Touch(7);
  reader_.Fail(absl::UnavailableError("reset by peer"));
  EXPECT_EQ(MessageOf(listener_.lane_failure), "demand lane: reset by peer");
  Discard({0, 8, 1});
  Touch(8);
  EXPECT_EQ(Seen(8), 0);  // needs no source
  Touch(9);
  EXPECT_EQ(reader_.asked.size(), 1u);
  memory_.KillVm();
  clock_.RunUntilIdle();
  EXPECT_FALSE(listener_.failure.ok());
}

TEST_F(FaultHandlerTest, AnAnswerForMemoryThatWasUnpluggedIsDropped) {
  Serve();
  Touch(7);
  Discard({0, 7, 1});
  memory_.FailInstalls(InstallOutcome::kGone, 1);
  reader_.Answer({0, 7}, 42);
  EXPECT_TRUE(listener_.failure.ok()) << listener_.failure;
  EXPECT_EQ(StateOf(7), PageState::kDiscarded);
}

TEST_F(FaultHandlerTest, ReportsAnInstallationThatFails) {
  Serve();
  Touch(7);
  memory_.FailInstalls(InstallOutcome::kFailed, 1, EINVAL);
  reader_.Answer({0, 7}, 42);
  EXPECT_NE(MessageOf(listener_.failure).find("install page 7 of RAM block 'ram'"),
            std::string::npos);
  EXPECT_EQ(StateOf(7), PageState::kMissing);
}

TEST_F(FaultHandlerTest, ANewLaneIsAskedForWhatIsWaitedFor) {
  Serve();
  Touch(9);
  clock_.AdvanceBy(100);
  Touch(7);
  Touch(8);
  reader_.Answer({0, 8}, 5);
  reader_.Fail(absl::UnavailableError("reset by peer"));
  Touch(3);
  handler_.Disconnect();
  EXPECT_TRUE(reader_.stopped);
  Touch(4);
  Touch(8);
  EXPECT_EQ(Seen(8), 5);
  ManualReader next;
  handler_.Connect(&next, /*integrity=*/false);
  // Who has waited longest comes first.
  EXPECT_EQ(next.asked, (std::vector<PageId>{{0, 9}, {0, 3}, {0, 4}, {0, 7}}));
  next.Answer({0, 4}, 6);
  EXPECT_EQ(Seen(4), 6);
  EXPECT_EQ(reader_.asked.size(), 3u);
}

TEST_F(FaultHandlerTest, ANewLaneIsNotAskedForWhatHasCome) {
  Serve();
  Touch(1);
  Touch(2);
  Touch(3);
  SetState(1, PageState::kInstalled);  // it was pushed
  memory_.FailInstalls(InstallOutcome::kNoSpace, 1, ENOSPC);
  reader_.Answer({0, 2}, 6);  // it has come, and waits for room
  handler_.FetchRest();
  handler_.Disconnect();
  ManualReader next;
  handler_.Connect(&next, /*integrity=*/false);
  EXPECT_EQ(next.asked, (std::vector<PageId>{{0, 3}}));
  clock_.AdvanceBy(1'000'000);
  EXPECT_EQ(Seen(2), 6);
}

// A page that is pushed as zeros is not put in, so nobody was woken by it.
TEST_F(FaultHandlerTest, WhoWaitsForAPageThatWasPushedAsZerosIsNotForgotten) {
  Serve();
  Touch(1);
  Touch(2);
  SetState(1, PageState::kAbsent);
  handler_.Disconnect();
  EXPECT_EQ(Seen(1), -1);
  ManualReader next;
  handler_.Connect(&next, /*integrity=*/false);
  EXPECT_EQ(next.asked, (std::vector<PageId>{{0, 2}}));
  EXPECT_EQ(Seen(1), 0);
}

TEST_F(FaultHandlerTest, WithoutALaneZerosAreGivenOut) {
  handler_.Start();
  SetState(5, PageState::kAbsent);
  Touch(5);
  EXPECT_EQ(Seen(5), 0);
  Touch(6);
  EXPECT_EQ(Seen(6), -1);
  handler_.Connect(&reader_, /*integrity=*/false);
  EXPECT_EQ(reader_.asked, (std::vector<PageId>{{0, 6}}));
}

TEST_F(FaultHandlerTest, InstallsAnAnswerThatFits) {
  Serve(/*integrity=*/true);
  Touch(7);
  Touch(8);
  reader_.digest_of_next = DigestOfRun({0, 7, 1}, Filled(1, 5));
  reader_.Answer({0, 7}, 5);
  reader_.digest_of_next = DigestOfRun({0, 8, 1}, {});
  reader_.AnswerZero({0, 8});
  clock_.RunUntilIdle();
  EXPECT_EQ(Seen(7), 5);
  EXPECT_EQ(Seen(8), 0);
  EXPECT_TRUE(listener_.mismatches.empty());
}

TEST_F(FaultHandlerTest, AnAnswerThatDoesNotFitIsAskedForAgainOnTheNextLane) {
  Serve(/*integrity=*/true);
  Touch(7);
  reader_.digest_of_next = DigestOfRun({0, 7, 1}, Filled(1, 5));
  reader_.Answer({0, 7}, 4);
  clock_.RunUntilIdle();
  EXPECT_EQ(Seen(7), -1);
  EXPECT_EQ(StateOf(7), PageState::kMissing);
  EXPECT_EQ(listener_.mismatches, (std::vector<PageRun>{{0, 7, 1}}));
  EXPECT_TRUE(reader_.stopped);
  Touch(9);  // it waits for the next lane
  ManualReader next;
  next.digest_of_next = reader_.digest_of_next;
  handler_.Connect(&next, /*integrity=*/true);
  EXPECT_EQ(next.asked, (std::vector<PageId>{{0, 7}, {0, 9}}));
  next.Answer({0, 7}, 5);
  clock_.RunUntilIdle();
  EXPECT_EQ(Seen(7), 5);
}

TEST_F(FaultHandlerTest, AnAnswerOfAnotherPageDoesNotFit) {
  Serve(/*integrity=*/true);
  Touch(7);
  reader_.digest_of_next = DigestOfRun({0, 8, 1}, Filled(1, 5));
  reader_.Answer({0, 7}, 5);
  EXPECT_EQ(listener_.mismatches.size(), 1u);
  EXPECT_EQ(Value(7), -2);
}

}  // namespace
}  // namespace faultline
