// What every driver of a hypervisor does, the real ones and the fake. Include once, then
// instantiate SourceVmmContract and DestinationVmmContract, and SourceVmmPauseContract for
// drivers that can pause their VM.
#ifndef FAULTLINE_TESTS_CONTRACT_VMM_CONTRACT_H_
#define FAULTLINE_TESTS_CONTRACT_VMM_CONTRACT_H_

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "contract/vmm_world.h"

namespace faultline::contract {

// --- The VM that goes away ---

class SourceVmmContract : public VmmContract {
 protected:
  // The operations of a source in their order, as far as the handover.
  std::vector<Operation> Steps() { return {SourcePrepare(), Freeze(), SaveDevices()}; }
  void MustReach(size_t steps) {
    for (size_t i = 0; i < steps; ++i) Must(Steps()[i]);
  }
  // Calls Rollback, which must bring the VM back to what it was.
  void MustRollBack(bool running, const std::string& settings) {
    Must(Rollback());
    EXPECT_EQ(world_->RunsAtSource(), running);
    EXPECT_EQ(world_->SourceSettings(), settings);
  }
};

TEST_P(SourceVmmContract, PrepareDescribesTheVmWhichRunsOn) {
  ASSERT_TRUE(world_->MakeSource(true));
  Result prepared = Must(SourcePrepare());
  EXPECT_TRUE(prepared.vm.running);
  ASSERT_FALSE(prepared.vm.regions.empty());
  std::set<std::string> names;
  for (const RamRegion& region : prepared.vm.regions) {
    EXPECT_TRUE(names.insert(region.layout.name).second) << region.layout.name;
    EXPECT_GT(region.layout.size_bytes, 0u);
    EXPECT_EQ(region.layout.size_bytes % region.layout.page_size_bytes, 0u);
  }
  EXPECT_TRUE(world_->RunsAtSource());
}

TEST_P(SourceVmmContract, FreezeStopsTheVmAndDescribesItOnceMore) {
  ASSERT_TRUE(world_->MakeSource(true));
  Result prepared = Must(SourcePrepare());
  Result frozen = Must(Freeze());
  EXPECT_FALSE(world_->RunsAtSource());
  EXPECT_TRUE(frozen.vm.running) << "it ran until then";
  EXPECT_EQ(frozen.vm.layout(), prepared.vm.layout());
  if (frozen.vm.stopped_at_ns != 0) {
    EXPECT_GE(frozen.vm.stopped_at_ns, frozen.begun_ns);
    EXPECT_LE(frozen.vm.stopped_at_ns, frozen.ended_ns);
  }
}

TEST_P(SourceVmmContract, SaveDevicesGivesAllStateBeforeItEnds) {
  ASSERT_TRUE(world_->MakeSource(true));
  MustReach(2);
  Result saved = Must(SaveDevices());
  EXPECT_GT(saved.state_bytes, 0u);
  world_->Pass(kSettleUs);
  EXPECT_EQ(State().size(), saved.state_bytes);
  EXPECT_FALSE(world_->RunsAtSource());
}

TEST_P(SourceVmmContract, RollbackFromEveryStepAndTheVmCanMoveAgain) {
  ASSERT_TRUE(world_->MakeSource(true));
  const std::string settings = world_->SourceSettings();
  for (size_t steps : {0, 1, 2, 3, 2, 3}) {
    SCOPED_TRACE(steps);
    MustReach(steps);
    MustRollBack(true, settings);
  }
}

TEST_P(SourceVmmContract, APausedVmIsKnownAsSuchAndStaysPaused) {
  for (size_t steps = 0; steps <= Steps().size(); ++steps) {
    SCOPED_TRACE(steps);
    ASSERT_TRUE(world_->MakeSource(false));
    const std::string settings = world_->SourceSettings();
    for (size_t i = 0; i < steps; ++i) {
      Result result = Must(Steps()[i]);
      EXPECT_FALSE(world_->RunsAtSource());
      if (result.name != std::string("Freeze")) continue;
      EXPECT_FALSE(result.vm.running);
      EXPECT_LT(result.vm.stopped_at_ns, result.begun_ns) << "it stood still before";
    }
    MustRollBack(false, settings);
  }
}

class SourceVmmPauseContract : public SourceVmmContract {};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(SourceVmmPauseContract);

TEST_P(SourceVmmPauseContract, APauseStopsARunningVmUntilItsEnd) {
  ASSERT_TRUE(world_->MakeSource(true));
  const std::string settings = world_->SourceSettings();
  Must(SourcePrepare());
  for (int round = 0; round < 3; ++round) {
    Must(PauseSource(true));
    EXPECT_FALSE(world_->RunsAtSource());
    Must(PauseSource(false));
    EXPECT_TRUE(world_->RunsAtSource());
  }
  MustRollBack(true, settings);
}

TEST_P(SourceVmmPauseContract, APauseLeavesAVmThatWasPausedAlone) {
  ASSERT_TRUE(world_->MakeSource(false));
  const std::string settings = world_->SourceSettings();
  Must(SourcePrepare());
  Must(PauseSource(true));
  Must(PauseSource(false));
  EXPECT_FALSE(world_->RunsAtSource());
  Must(PauseSource(true));
  MustRollBack(false, settings);
}

TEST_P(SourceVmmPauseContract, RollbackAndFreezeEndAPause) {
  ASSERT_TRUE(world_->MakeSource(true));
  const std::string settings = world_->SourceSettings();
  Must(SourcePrepare());
  Must(PauseSource(true));
  MustRollBack(true, settings);
  Must(SourcePrepare());
  Must(PauseSource(true));
  Result frozen = Must(Freeze());
  EXPECT_TRUE(frozen.vm.running) << "it ran until the pause";
  EXPECT_FALSE(world_->RunsAtSource());
  Must(SaveDevices());
  MustRollBack(true, settings);
  for (int64_t moment_us : kMomentsUs) {
    SCOPED_TRACE(moment_us);
    Must(SourcePrepare());
    Pending under_way = Begin(PauseSource(true));
    world_->Pass(moment_us);
    MustRollBack(true, settings);
    Result cut_off = End(under_way);
    EXPECT_TRUE(cut_off.status.ok() || cut_off.cancelled()) << cut_off.status;
  }
}

TEST_P(SourceVmmContract, RollbackCancelsWhatIsUnderWayFirst) {
  ASSERT_TRUE(world_->MakeSource(true));
  const std::string settings = world_->SourceSettings();
  for (size_t step = 0; step < Steps().size(); ++step) {
    for (int64_t moment_us : kMomentsUs) {
      SCOPED_TRACE(std::string(Steps()[step].name) + " for " + std::to_string(moment_us) + " us");
      MustReach(step);
      Pending under_way = Begin(Steps()[step]);
      world_->Pass(moment_us);
      bool had_ended = false;
      Pending rollback;
      world_->RunOnControl([&] {
        had_ended = under_way->times > 0;
        rollback = BeginHere(Rollback());
      });
      Result rolled_back = End(rollback);
      EXPECT_TRUE(rolled_back.status.ok()) << rolled_back.status;
      Result cut_off = End(under_way);
      EXPECT_TRUE(had_ended ? cut_off.status.ok() : cut_off.cancelled()) << cut_off.status;
      EXPECT_LT(cut_off.order, rolled_back.order);
      EXPECT_TRUE(world_->RunsAtSource());
      EXPECT_EQ(world_->SourceSettings(), settings);
    }
  }
}

TEST_P(SourceVmmContract, RollbackInTheSameMomentCancelsToo) {
  ASSERT_TRUE(world_->MakeSource(true));
  for (size_t step = 0; step < Steps().size(); ++step) {
    SCOPED_TRACE(Steps()[step].name);
    MustReach(step);
    Pending under_way, rollback;
    world_->RunOnControl([&] {
      under_way = BeginHere(Steps()[step]);
      rollback = BeginHere(Rollback());
    });
    EXPECT_TRUE(End(rollback).status.ok());
    EXPECT_TRUE(End(under_way).cancelled());
    EXPECT_LT(End(under_way).order, End(rollback).order);
    EXPECT_TRUE(world_->RunsAtSource());
  }
}

TEST_P(SourceVmmContract, ASecondRollbackCancelsTheFirstAndEndsTheSame) {
  ASSERT_TRUE(world_->MakeSource(true));
  const std::string settings = world_->SourceSettings();
  for (size_t steps = 1; steps <= Steps().size(); ++steps) {
    for (int64_t moment_us : kMomentsUs) {
      SCOPED_TRACE(std::to_string(steps) + " steps, " + std::to_string(moment_us) + " us");
      MustReach(steps);
      Pending first = Begin(Rollback());
      world_->Pass(moment_us);
      const bool had_ended = Ended(first);
      MustRollBack(true, settings);
      Result cut_off = End(first);
      EXPECT_TRUE(cut_off.cancelled() || cut_off.status.ok()) << cut_off.status;
      EXPECT_TRUE(!had_ended || cut_off.status.ok()) << cut_off.status;
    }
  }
}

TEST_P(SourceVmmContract, ASaveThatFailsIsRolledBack) {
  ASSERT_TRUE(world_->MakeSource(true));
  const std::string settings = world_->SourceSettings();
  Must(SourcePrepare());
  Must(Freeze(FreezePoint::kDrained));  // with the other they may be saved by now
  world_->SpoilSave();
  Result saved = Run(SaveDevices());
  EXPECT_FALSE(saved.status.ok());
  EXPECT_FALSE(saved.cancelled()) << saved.status;
  EXPECT_NE(saved.message, "");
  MustRollBack(true, settings);
}

TEST_P(SourceVmmContract, ABrokenVmmFailsEveryCallOnceAndIsNeverCalledRolledBack) {
  for (size_t step : {1, 2}) {
    SCOPED_TRACE(Steps()[step].name);
    ASSERT_TRUE(world_->MakeSource(true));
    MustReach(step);
    world_->BreakSource();
    Result failed = Run(Steps()[step]);
    EXPECT_FALSE(failed.status.ok());
    EXPECT_FALSE(failed.cancelled()) << failed.status;
    for (int attempt = 0; attempt < 2; ++attempt) {
      Result back = Run(Rollback());
      EXPECT_FALSE(back.status.ok()) << "attempt " << attempt;
      EXPECT_FALSE(back.cancelled()) << back.status;
    }
  }
}

TEST_P(SourceVmmContract, RetireEndsItAndItDoesNotRunAgain) {
  for (bool quit : {false, true}) {
    SCOPED_TRACE(quit);
    ASSERT_TRUE(world_->MakeSource(true));
    MustReach(3);
    Must(Retire(quit));
    world_->Pass(kSettleUs);
    EXPECT_FALSE(world_->RunsAtSource());
  }
}

TEST_P(SourceVmmContract, ADestroyedDriverCallsNothingBack) {
  for (size_t step = 0; step < Steps().size(); ++step) {
    for (bool rolling_back : {false, true}) {
      SCOPED_TRACE(Steps()[step].name);
      ASSERT_TRUE(world_->MakeSource(true));
      MustReach(step);
      world_->RunOnControl([&] {
        BeginHere(Steps()[step])->dropped = true;
        if (rolling_back) BeginHere(Rollback())->dropped = true;
        world_->DropSource();
      });
      world_->Pass(kSettleUs);
    }
  }
}

// --- The VM that comes to be ---

class DestinationVmmContract : public VmmContract {
 protected:
  // Freezes a source and takes its device state and its memory; makes the one that waits for them.
  bool MakeBoth(bool running) {
    if (!world_->MakeSource(running) || !world_->MakeDestination()) return false;
    from_ = Must(SourcePrepare()).vm.layout();
    Must(Freeze());
    Must(SaveDevices());
    saved_ = State();
    return !HasFailure();
  }
  // A fresh destination for the same state.
  bool MakeAnother() { return world_->MakeDestination(); }

  // Whatever is still under way from the source: it must do no harm.
  void FeedLate() {
    world_->RunOnControl([&] {
      world_->destination().FeedDeviceState(saved_);
      world_->destination().EndDeviceState();
    });
  }

  // The operations of a destination in their order, as far as the handover.
  std::vector<Operation> Steps() {
    return {DestinationPrepare(), DescribeAgain(), LoadAll(saved_)};
  }
  void MustReach(size_t steps) {
    if (steps == Steps().size()) world_->CarryMemory();
    for (size_t i = 0; i < steps; ++i) Must(Steps()[i]);
  }

  MemoryLayout from_;
  std::vector<std::byte> saved_;
};

TEST_P(DestinationVmmContract, DescribesTheWaitingVmTwice) {
  ASSERT_TRUE(MakeBoth(true));
  EXPECT_EQ(Must(DestinationPrepare()).vm.layout(), from_);
  EXPECT_EQ(Must(DescribeAgain()).vm.layout(), from_);
  EXPECT_FALSE(world_->RunsAtDestination());
}

TEST_P(DestinationVmmContract, LoadTakesTheStateInPiecesAndEndsWithItPaused) {
  ASSERT_TRUE(MakeBoth(true));
  MustReach(2);
  world_->CarryMemory();
  Pending load = Begin(Load());
  // One byte, a few, many; the bytes are valid during the call only.
  size_t piece_bytes = 1;
  for (size_t at = 0; at < saved_.size(); at += piece_bytes, piece_bytes *= 3) {
    auto end = saved_.begin() + static_cast<ptrdiff_t>(std::min(at + piece_bytes, saved_.size()));
    std::vector<std::byte> piece(saved_.begin() + static_cast<ptrdiff_t>(at), end);
    world_->RunOnControl([&] {
      world_->destination().FeedDeviceState(piece);
      std::fill(piece.begin(), piece.end(), std::byte{0xee});
    });
    world_->Pass(1'000);
  }
  world_->Pass(kSettleUs);
  EXPECT_FALSE(Ended(load)) << "before the source said that this is all";
  world_->RunOnControl([&] { world_->destination().EndDeviceState(); });
  Result loaded = End(load);
  EXPECT_TRUE(loaded.status.ok()) << loaded.status;
  world_->Pass(kSettleUs);
  EXPECT_FALSE(world_->RunsAtDestination());
}

TEST_P(DestinationVmmContract, TakeOverRunsItAndItCanBePausedUntilTheEnd) {
  ASSERT_TRUE(MakeBoth(true));
  MustReach(3);
  Must(TakeOver(true));
  EXPECT_TRUE(world_->RunsAtDestination());
  for (bool paused : {true, false, true, false}) {
    Must(SetPaused(paused));
    EXPECT_EQ(world_->RunsAtDestination(), !paused);
  }
  Must(Finish());
  EXPECT_TRUE(world_->RunsAtDestination());
  EXPECT_FALSE(world_->RunsAtSource());
  Must(Retire(true));
  EXPECT_TRUE(world_->RunsAtDestination());
}

TEST_P(DestinationVmmContract, TakeOverLeavesAPausedVmPaused) {
  ASSERT_TRUE(MakeBoth(false));
  MustReach(3);
  Must(TakeOver(false));
  EXPECT_FALSE(world_->RunsAtDestination());
  Must(Finish());
  EXPECT_FALSE(world_->RunsAtDestination());
  EXPECT_FALSE(world_->DestinationIsGone());
}

TEST_P(DestinationVmmContract, DiscardFromEveryStepEndsItAndTheSourceCanRun) {
  ASSERT_TRUE(MakeBoth(true));
  Must(Discard());  // nothing has been looked at yet
  for (size_t steps = 1; steps <= Steps().size(); ++steps) {
    SCOPED_TRACE(steps);
    ASSERT_TRUE(MakeAnother());
    MustReach(steps);
    Must(Discard());
    EXPECT_TRUE(world_->DestinationIsGone());
    FeedLate();
    world_->Pass(kSettleUs);
    EXPECT_FALSE(world_->RunsAtDestination());
  }
  Must(Rollback());
  EXPECT_TRUE(world_->RunsAtSource());
}

TEST_P(DestinationVmmContract, DiscardCancelsWhatIsUnderWayFirst) {
  ASSERT_TRUE(MakeBoth(true));
  for (size_t step = 0; step < Steps().size(); ++step) {
    for (int64_t moment_us : {0, 500, 5'000}) {
      SCOPED_TRACE(std::string(Steps()[step].name) + " for " + std::to_string(moment_us) + " us");
      ASSERT_TRUE(MakeAnother());
      MustReach(step);
      Pending under_way = Begin(Steps()[step]);
      world_->Pass(moment_us);
      bool had_ended = false;
      Pending discard;
      world_->RunOnControl([&] {
        had_ended = under_way->times > 0;
        discard = BeginHere(Discard());
      });
      FeedLate();
      Result discarded = End(discard);
      EXPECT_TRUE(discarded.status.ok()) << discarded.status;
      Result cut_off = End(under_way);
      EXPECT_TRUE(had_ended ? cut_off.status.ok() : cut_off.cancelled()) << cut_off.status;
      EXPECT_LT(cut_off.order, discarded.order);
      // Prepare may have been cut off before it knew what waits there.
      EXPECT_TRUE(world_->DestinationIsGone() || step == 0);
      EXPECT_FALSE(world_->RunsAtDestination());
    }
  }
}

TEST_P(DestinationVmmContract, DiscardEndsALoadThatWaitsForState) {
  ASSERT_TRUE(MakeBoth(true));
  MustReach(2);
  Pending load = Begin(Load());
  world_->Pass(kSettleUs);
  EXPECT_FALSE(Ended(load));
  Must(Discard());
  EXPECT_TRUE(End(load).cancelled());
  EXPECT_TRUE(world_->DestinationIsGone());
}

TEST_P(DestinationVmmContract, ALoadThatFailsSaysWhyAndIsDiscarded) {
  ASSERT_TRUE(MakeBoth(true));
  MustReach(2);
  const std::vector<std::byte> spoilt = world_->SpoilState(saved_);
  Result loaded = Run(LoadAll(spoilt));
  EXPECT_FALSE(loaded.status.ok());
  EXPECT_FALSE(loaded.cancelled()) << loaded.status;
  EXPECT_NE(loaded.message, "");
  FeedLate();
  EXPECT_FALSE(world_->RunsAtDestination());
  Must(Discard());
  EXPECT_TRUE(world_->DestinationIsGone());
}

TEST_P(DestinationVmmContract, ADestroyedDriverCallsNothingBack) {
  ASSERT_TRUE(MakeBoth(true));
  for (size_t step = 0; step < Steps().size(); ++step) {
    for (bool discarding : {false, true}) {
      SCOPED_TRACE(Steps()[step].name);
      ASSERT_TRUE(MakeAnother());
      MustReach(step);
      world_->RunOnControl([&] {
        BeginHere(Steps()[step])->dropped = true;
        if (discarding) BeginHere(Discard())->dropped = true;
        world_->DropDestination();
      });
      world_->Pass(kSettleUs);
    }
  }
}

}  // namespace faultline::contract

#endif  // FAULTLINE_TESTS_CONTRACT_VMM_CONTRACT_H_
