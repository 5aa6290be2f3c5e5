// Memory that is sent before the switch: rounds, what is old at the freeze, and how it may end.
#include <gmock/gmock.h>

#include <random>

#include "engine/migration_rig.h"
#include "protocol/codec.h"

namespace faultline {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::Gt;
using testing::HasSubstr;
using testing::Not;

RigOptions Mode(MigrationMode mode) {
  RigOptions options;
  options.mode = mode;
  return options;
}

// A guest that writes a page now and then for as long as its VM runs on the source.
class Writer {
 public:
  Writer(MigrationRig* rig, int64_t interval_us, std::vector<PageId> pages, uint64_t seed = 1)
      : rig_(rig),
        interval_us_(interval_us),
        pages_(std::move(pages)),
        random_(seed),
        cpu_(&rig->clock, "guest") {
    Again();
  }
  int writes() const { return writes_; }

 private:
  void Again() {
    timer_ = rig_->clock.Schedule(&cpu_, rig_->clock.now_ns() + interval_us_ * 1000, [this] {
      const PageId page = pages_[random_() % pages_.size()];
      if (rig_->vm.runs_on_source) ++writes_;
      rig_->WriteOnSource(page, static_cast<std::byte>(1 + random_() % 255));
      Again();
    });
  }

  MigrationRig* const rig_;
  const int64_t interval_us_;
  const std::vector<PageId> pages_;
  std::mt19937_64 random_;
  ManualExecutor cpu_;
  int writes_ = 0;
  std::unique_ptr<Timer> timer_;
};

std::vector<PageId> AllPages(const MemoryLayout& layout) {
  std::vector<PageId> pages;
  for (RegionIndex region = 0; region < layout.size(); ++region) {
    for (uint64_t page = 0; page < layout[region].page_count(); ++page) {
      pages.push_back({region, page});
    }
  }
  return pages;
}

bool Precopies(const MigrationRig& rig) {
  const std::vector<Phase>& phases = rig.source_observer.phases();
  return !phases.empty() && phases.back() == Phase::kPreCopy;
}

void ExpectUntracked(const MigrationRig& rig) { EXPECT_FALSE(rig.writes.tracked()); }

class PreCopyModes : public testing::TestWithParam<MigrationMode> {};

INSTANTIATE_TEST_SUITE_P(All, PreCopyModes,
                         testing::Values(MigrationMode::kHybrid, MigrationMode::kPreCopy),
                         [](const auto& tested) { return std::string(ModeName(tested.param)); });

TEST_P(PreCopyModes, AnIdleVmIsThereBeforeItStops) {
  MigrationRig rig(Mode(GetParam()));
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectCompleted();
  rig.ExpectMemoryMoved();
  ExpectUntracked(rig);
  const PreCopyResult& pre_copy = *rig.source_result->pre_copy;
  EXPECT_EQ(pre_copy.switch_reason, SwitchReason::kConverged);
  EXPECT_EQ(pre_copy.rounds.size(), 1u);
  EXPECT_EQ(pre_copy.pages_sent, 60u);  // three of four
  EXPECT_EQ(pre_copy.pages_old, 0u);
  EXPECT_EQ(pre_copy.tracker, "fake");
  EXPECT_EQ(rig.source_result->mode, GetParam());
  EXPECT_EQ(rig.destination_result->last.pages_precopied, 60u);
  EXPECT_EQ(rig.destination_result->last.pages_pushed, 0u);
  EXPECT_EQ(rig.destination_result->last.pages_demand, 0u);
  EXPECT_THAT(rig.source_observer.phases(), Contains(Phase::kPreCopy));
  EXPECT_THAT(rig.destination_observer.phases(), Contains(Phase::kPreCopy));
}

TEST_P(PreCopyModes, WhatIsWrittenMeanwhileArrivesAsItWasLast) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    RigOptions options = Mode(GetParam());
    options.seed = seed;
    options.direct_io = seed % 3 == 0;
    MigrationRig rig(options);
    rig.network.set_bandwidth_bytes_per_second(20'000'000);
    Writer writer(&rig, 40 + static_cast<int64_t>(seed) * 17, AllPages(options.layout), seed);
    rig.Start();
    ASSERT_TRUE(rig.RunToEnd());
    rig.ExpectCompleted();
    rig.ExpectMemoryEqual();
    ExpectUntracked(rig);
    EXPECT_GT(writer.writes(), 10) << "seed " << seed;
  }
}

TEST_P(PreCopyModes, PagesThatTheGuestGaveUpAreZeroThere) {
  RigOptions options = Mode(GetParam());
  MigrationRig rig(options);
  rig.source_vmm.OnCall([&](const std::string& name) {
    // As the VM comes to a stop: no scan reports it.
    if (name == "Freeze") rig.source_memory->Punch({0, 4});
  });
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectCompleted();
  EXPECT_EQ(rig.guest->BytesOf({0, 4}), std::vector<std::byte>(4096));
  rig.ExpectMemoryEqual();
  EXPECT_EQ(rig.source_result->pre_copy->pages_old_in_downtime, 1u);
  EXPECT_EQ(rig.destination_result->last.pages_absent, 21u);
}

TEST_P(PreCopyModes, WhatIsWrittenAfterTheLastLookIsNamedWhileTheVmStandsStill) {
  MigrationRig rig(Mode(GetParam()));
  rig.source_vmm.OnCall([&](const std::string& name) {
    if (name != "SaveDevices") return;
    rig.source_memory->Fill({0, 5}, std::byte{0x77});
    rig.writes.Write({0, 5});
    rig.source_memory->Fill({0, 3}, std::byte{0x78});  // was a hole: never sent
    rig.writes.Write({0, 3});
  });
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectCompleted();
  rig.ExpectMemoryEqual();
  EXPECT_EQ(rig.source_result->pre_copy->pages_old, 1u);
  EXPECT_EQ(rig.source_result->pre_copy->pages_old_in_downtime, 1u);
  EXPECT_EQ(rig.destination_result->last.pages_pushed + rig.destination_result->last.pages_demand,
            2u);
}

// It takes the VMM a while to bring the VM to a stop, and the VM writes all the while.
TEST_P(PreCopyModes, WhatIsWrittenWhileTheVmIsBroughtToAStopIsNamedMeanwhile) {
  for (const bool direct_io : {false, true}) {
    RigOptions options = Mode(GetParam());
    options.direct_io = direct_io;
    MigrationRig rig(options);
    ManualExecutor cpu(&rig.clock, "guest");
    std::vector<std::unique_ptr<Timer>> writes;
    const std::vector<PageId> pages = AllPages(options.layout);
    size_t cleaned = 0;  // until the VM was told to stop
    rig.source_vmm.Script("Freeze", {.delay_us = 40'000});
    rig.source_vmm.OnCall([&](const std::string& name) {
      if (name == "Freeze") cleaned = rig.writes.cleaning_scans();
      for (int64_t ms = 0; name == "Freeze" && ms < 40; ++ms) {
        writes.push_back(
            rig.clock.Schedule(&cpu, rig.clock.now_ns() + ms * 1'000'000, [&rig, &pages, ms] {
              const PageId page = pages[static_cast<size_t>(ms)];
              rig.source_memory->Fill(page, static_cast<std::byte>(100 + ms));
              rig.writes.Write(page);
            }));
      }
    });
    rig.Start();
    ASSERT_TRUE(rig.RunToEnd());
    rig.ExpectCompleted();
    rig.ExpectMemoryEqual();
    const PreCopyResult& pre_copy = *rig.source_result->pre_copy;
    EXPECT_GT(pre_copy.pages_old, 20u);
    EXPECT_EQ(rig.writes.cleaning_scans(), cleaned) << "writes cost the VM nothing from there on";
    if (direct_io) {
      EXPECT_EQ(rig.source_vmm.freeze_point(), FreezePoint::kDrained);
      EXPECT_GT(pre_copy.pages_old_in_downtime, 20u);
    } else {
      EXPECT_EQ(rig.source_vmm.freeze_point(), FreezePoint::kSaving);
      EXPECT_LT(pre_copy.pages_old_in_downtime, 10u);
    }
  }
}

TEST_P(PreCopyModes, ALookThatFailsWhileTheVmIsBroughtToAStopLeavesItAtWork) {
  MigrationRig rig(Mode(GetParam()));
  rig.source_vmm.Script("Freeze", {.delay_us = 20'000});
  rig.source_vmm.OnCall([&](const std::string& name) {
    if (name == "Freeze") rig.writes.FailWith(absl::InternalError("the scan broke"));
  });
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectRolledBack();
  ExpectUntracked(rig);
  EXPECT_THAT(MessageOf(rig.source_result->status), HasSubstr("the scan broke"));
}

// The devices read what the VM wrote last: they are not loaded before what is old is out.
TEST_P(PreCopyModes, DevicesAreLoadedOnlyOnceWhatIsOldIsMissing) {
  MigrationRig rig(Mode(GetParam()));
  rig.source_vmm.OnCall([&](const std::string& name) {
    if (name != "Freeze") return;
    rig.source_memory->Fill({0, 5}, std::byte{0x77});
    rig.writes.Write({0, 5});
  });
  std::byte seen{0};
  rig.destination_vmm.set_load_hook([&](std::function<void()> go_on) {
    rig.guest->Touch({0, 5}, [&seen, go_on](const std::vector<std::byte>& page) {
      seen = page[0];
      go_on();
    });
  });
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectCompleted();
  EXPECT_EQ(seen, std::byte{0x77});
  rig.ExpectMemoryEqual();
}

TEST_P(PreCopyModes, WhatComesBeforeTheDevicesIsLoadedAtOnce) {
  MigrationRig rig(Mode(GetParam()));
  rig.source_vmm.Script("SaveDevices", {.delay_us = 200'000, .status = {}});
  rig.Start();
  // The fake gives half of its state before it says that the VM stands still.
  ASSERT_TRUE(rig.RunUntil([&] { return rig.source_vmm.CountOf("SaveDevices") == 1; }));
  ASSERT_TRUE(rig.RunUntil([&] { return !rig.destination_vmm.fed().empty(); }));
  EXPECT_EQ(rig.source_vmm.under_way(), "SaveDevices");
  const size_t early = rig.destination_vmm.fed().size();
  ASSERT_TRUE(rig.RunToEnd());
  EXPECT_GT(rig.destination_vmm.fed().size(), early);
  rig.ExpectCompleted();
}

TEST_P(PreCopyModes, WhereWritesCannotBeTrackedItSaysSoAndTouchesNothing) {
  MigrationRig rig(Mode(GetParam()));
  rig.tracker_factory.RefuseWith(absl::FailedPreconditionError("no hook; use post-copy"));
  rig.Start();
  ASSERT_TRUE(rig.RunUntil([&] { return rig.source_result.has_value(); }));
  EXPECT_THAT(MessageOf(rig.source_result->status), HasSubstr("no hook"));
  EXPECT_EQ(rig.source_vmm.CountOf("Freeze"), 0u);
  EXPECT_EQ(rig.vm.stopped_at_ns, 0);
}

TEST_P(PreCopyModes, ADestinationOfOldGetsPostCopy) {
  MigrationRig rig(Mode(GetParam()));
  // It looks at nothing behind `integrity`.
  rig.network.set_changer([](ConnectionRole role, int to, FakeNetwork::Bytes* bytes) {
    constexpr size_t kAsksForRounds = kMessageHeaderBytes + 11;
    if (role == ConnectionRole::kControl && to == 1 && (*bytes)[0] == std::byte{1}) {
      (*bytes)[kAsksForRounds] = std::byte{0};
    }
  });
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectCompleted();
  rig.ExpectMemoryMoved();
  EXPECT_EQ(rig.source_result->pre_copy->switch_reason, SwitchReason::kPeer);
  EXPECT_EQ(rig.destination_result->last.pages_precopied, 0u);
  EXPECT_THAT(rig.source_observer.notices(), Contains(HasSubstr("post-copy")));
}

TEST_P(PreCopyModes, ScansUnderDirectIoHappenWithTheVmStandingStill) {
  RigOptions options = Mode(GetParam());
  options.direct_io = true;
  MigrationRig rig(options);
  rig.writes.OnCall([&] { EXPECT_FALSE(rig.vm.runs_on_source); });
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectCompleted();
  rig.ExpectMemoryMoved();
  EXPECT_EQ(rig.source_result->pre_copy->pauses, rig.source_vmm.CountOf("Pause"));
  EXPECT_EQ(rig.source_vmm.CountOf("Pause"), rig.source_vmm.CountOf("Continue"));
  EXPECT_GE(rig.source_result->pre_copy->pauses, 2u);
  EXPECT_GT(rig.source_result->pre_copy->pause_us_max, 0u);
}

// What wrote memory unseen since then must not be relied on.
TEST_P(PreCopyModes, ADeviceThatWritesUnseenPluggedInMeanwhileEndsIt) {
  for (const bool direct_io : {false, true}) {
    MigrationRig rig(Mode(GetParam()));
    VmDescription plugged = DescribeVm(rig.options.layout, /*running=*/true);
    plugged.guest_may_discard = rig.options.guest_may_discard;
    plugged.direct_io = direct_io;
    if (!direct_io) plugged.untrackable = "a disk with direct I/O of its own kind";
    rig.source_vmm.set_layout_at_freeze(plugged);
    rig.Start();
    ASSERT_TRUE(rig.RunToEnd());
    rig.ExpectRolledBack();
    ExpectUntracked(rig);
    EXPECT_THAT(MessageOf(rig.source_result->status), HasSubstr("disk with direct I/O"));
  }
}

// Cancelled, cut off, with a tracker that fails: the VM is at work on the source, at full speed.
TEST_P(PreCopyModes, CancelledAtAnyMomentNothingIsLeftBehind) {
  for (int64_t at_us = 0; at_us < 12'000; at_us += 130) {
    RigOptions options = Mode(GetParam());
    options.direct_io = at_us % 260 == 0;
    MigrationRig rig(options);
    rig.network.set_bandwidth_bytes_per_second(40'000'000);
    Writer writer(&rig, 60, AllPages(options.layout));
    rig.Start();
    rig.clock.AdvanceBy(at_us);
    rig.source_threads.control.Post([&] { rig.source->Cancel("Ctrl-C"); });
    ASSERT_TRUE(rig.RunUntil([&] { return rig.source_result.has_value(); }));
    ExpectUntracked(rig);
    if (!rig.source_result->status.ok()) {
      rig.ExpectRolledBack();
      continue;
    }
    ASSERT_TRUE(rig.RunToEnd());
    rig.ExpectCompleted();
    rig.ExpectMemoryEqual();
  }
}

TEST_P(PreCopyModes, ALinkThatBreaksInARoundLeavesTheVmAtWork) {
  for (int64_t at_us = 0; at_us < 8'000; at_us += 170) {
    MigrationRig rig(Mode(GetParam()));
    rig.network.set_bandwidth_bytes_per_second(40'000'000);
    Writer writer(&rig, 60, AllPages(rig.options.layout));
    rig.Start();
    ASSERT_TRUE(rig.RunUntil([&] { return Precopies(rig); }));
    rig.clock.AdvanceBy(at_us);
    if (rig.source_journal.Has(JournalPhase::kCommitted)) continue;
    rig.network.Cut();
    ASSERT_TRUE(rig.RunUntil([&] { return rig.source_result.has_value(); }));
    ExpectUntracked(rig);
    EXPECT_TRUE(rig.vm.runs_on_source);
    EXPECT_EQ(rig.source_result->owner, VmOwner::kSource);
  }
}

TEST_P(PreCopyModes, AScanThatFailsEndsTheMigrationBeforeTheVmStops) {
  MigrationRig rig(Mode(GetParam()));
  rig.Start();
  ASSERT_TRUE(rig.RunUntil([&] { return rig.writes.tracked(); }));
  rig.writes.FailWith(absl::InternalError("the scan broke"));
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectRolledBack();
  ExpectUntracked(rig);
  EXPECT_THAT(MessageOf(rig.source_result->status), HasSubstr("the scan broke"));
}

TEST_P(PreCopyModes, AMismatchInARoundEndsItBeforeTheVmStops) {
  MigrationRig rig(Mode(GetParam()));
  bool changed = false;
  rig.network.set_changer([&](ConnectionRole role, int to, FakeNetwork::Bytes* bytes) {
    if (role != ConnectionRole::kBulk || to != 1 || bytes->size() < 4096) return;
    if (std::exchange(changed, true)) return;
    (*bytes)[2000] ^= std::byte{1};
  });
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectRolledBack();
  ExpectUntracked(rig);
  EXPECT_EQ(rig.source_vmm.CountOf("Freeze"), 0u);
}

TEST_P(PreCopyModes, ADestinationWithoutRoomInARoundLeavesTheVmAtWork) {
  MigrationRig rig(Mode(GetParam()));
  rig.writes.OnCall([&] { rig.guest->FailInstalls(InstallOutcome::kNoSpace, 100'000, ENOSPC); });
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectRolledBack();
  ExpectUntracked(rig);
  EXPECT_EQ(rig.source_vmm.CountOf("Freeze"), 0u);
  EXPECT_TRUE(absl::IsResourceExhausted(rig.destination_result->status));
  EXPECT_THAT(MessageOf(rig.source_result->status), HasSubstr("no memory left"));
}

TEST(PreCopy, AWordFromOutsideEndsTheRounds) {
  RigOptions options = Mode(MigrationMode::kPreCopy);
  options.layout = {{"ram", 3000 * 4096, 4096}};
  MigrationRig rig(options);
  rig.network.set_bandwidth_bytes_per_second(20'000'000);
  Writer writer(&rig, 5, AllPages(options.layout));
  rig.Start();
  ASSERT_TRUE(rig.RunUntil([&] { return Precopies(rig); }));
  rig.clock.AdvanceBy(250'000);
  rig.source_threads.control.Post([&] { rig.source->SwitchNow(); });
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectCompleted();
  rig.ExpectMemoryEqual();
  EXPECT_EQ(rig.source_result->pre_copy->switch_reason, SwitchReason::kAsked);
  EXPECT_EQ(rig.source_result->pre_copy->rounds.size(), 1u);
  EXPECT_LT(rig.source_result->pre_copy->pages_sent, 2250u) << "in the middle of the round";
}

TEST(PreCopy, TimeThatIsUpEndsARoundInItsMiddle) {
  RigOptions options = Mode(MigrationMode::kPreCopy);
  options.layout = {{"ram", 3000 * 4096, 4096}};
  options.budgets.time_max_us = 250'000;
  MigrationRig rig(options);
  rig.network.set_bandwidth_bytes_per_second(20'000'000);
  Writer writer(&rig, 5, AllPages(options.layout));
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectCompleted();
  rig.ExpectMemoryEqual();
  EXPECT_EQ(rig.source_result->pre_copy->switch_reason, SwitchReason::kTime);
  EXPECT_LT(rig.source_result->pre_copy->pages_sent, 2250u);
  EXPECT_LT(rig.source_result->pre_copy->elapsed_us, 600'000u);
}

TEST(PreCopy, AWordBeforeItBeginsIsRemembered) {
  MigrationRig rig(Mode(MigrationMode::kPreCopy));
  Writer writer(&rig, 5, AllPages(rig.options.layout));
  rig.StartDestination();
  rig.clock.AdvanceBy(10'000);
  rig.StartSource();
  rig.source_threads.control.Post([&] { rig.source->SwitchNow(); });
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectCompleted();
  rig.ExpectMemoryEqual();
  EXPECT_EQ(rig.source_result->pre_copy->switch_reason, SwitchReason::kAsked);
}

TEST(PreCopy, PurePreCopyFallsOverToPostCopyAndSaysSo) {
  RigOptions options = Mode(MigrationMode::kPreCopy);
  options.budgets.downtime_max_us = 100;
  MigrationRig rig(options);
  rig.network.set_bandwidth_bytes_per_second(20'000'000);
  Writer writer(&rig, 5, AllPages(options.layout));
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectCompleted();
  rig.ExpectMemoryEqual();
  EXPECT_EQ(rig.source_result->pre_copy->switch_reason, SwitchReason::kNotConverging);
  EXPECT_THAT(rig.source_observer.notices(), Contains(HasSubstr("without having converged")));
  EXPECT_GT(rig.source_result->pre_copy->rounds.size(), 2u);
}

// 6,600 pages a second are written, 4,900 sent.
RigOptions WithThrottle() {
  RigOptions options = Mode(MigrationMode::kPreCopy);
  options.layout = {{"ram", 1500 * 4096, 4096}};
  options.budgets = {.downtime_max_us = 10'000, .throttle = true};
  return options;
}

TEST(PreCopy, ThrottledItConvergesWhereItWouldNot) {
  for (const bool direct_io : {false, true}) {
    for (const bool throttle : {false, true}) {
      RigOptions options = WithThrottle();
      options.direct_io = direct_io;
      options.budgets.throttle = throttle;
      MigrationRig rig(options);
      rig.network.set_bandwidth_bytes_per_second(20'000'000);
      Writer writer(&rig, 150, AllPages(options.layout));
      rig.Start();
      ASSERT_TRUE(rig.RunToEnd());
      rig.ExpectCompleted();
      rig.ExpectMemoryEqual();
      const PreCopyResult& pre_copy = *rig.source_result->pre_copy;
      EXPECT_EQ(pre_copy.switch_reason,
                throttle ? SwitchReason::kConverged : SwitchReason::kNotConverging);
      EXPECT_EQ(pre_copy.throttle_percent > 0, throttle);
      EXPECT_EQ(pre_copy.throttled_us > 0, throttle);
      EXPECT_EQ(rig.source_vmm.CountOf("Pause"), rig.source_vmm.CountOf("Continue"));
      EXPECT_NE(rig.vm.stopped_at_ns, 0) << "it ran, unslowed, until it was frozen";
      if (throttle) {
        EXPECT_THAT(rig.source_observer.notices(), Contains(HasSubstr("stands still for 20%")));
      }
    }
  }
}

TEST(PreCopy, AThrottledVmIsAtFullSpeedWhateverEndsTheMigration) {
  for (int moment = 0; moment < 32; ++moment) {
    const int64_t at_us = 400'000 + moment * 49'700;
    RigOptions options = WithThrottle();
    options.budgets.downtime_max_us = 1;  // never reached
    options.direct_io = moment % 3 == 0;
    MigrationRig rig(options);
    rig.network.set_bandwidth_bytes_per_second(20'000'000);
    Writer writer(&rig, 50, AllPages(options.layout));
    rig.Start();
    rig.clock.AdvanceBy(at_us);
    ASSERT_FALSE(rig.source_result.has_value());
    if (moment % 2 == 0) {
      rig.source_threads.control.Post([&] { rig.source->Cancel("Ctrl-C"); });
    } else {
      rig.network.Cut();
    }
    ASSERT_TRUE(rig.RunUntil([&] { return rig.source_result.has_value(); }));
    ExpectUntracked(rig);
    EXPECT_TRUE(rig.vm.runs_on_source);
    EXPECT_GT(rig.source_result->pre_copy->throttle_percent + (at_us < 1'000'000 ? 1 : 0), 0u);
    const size_t pauses = rig.source_vmm.CountOf("Pause");
    rig.clock.AdvanceBy(1'000'000);
    EXPECT_EQ(rig.source_vmm.CountOf("Pause"), pauses);
    EXPECT_TRUE(rig.vm.runs_on_source);
  }
}

TEST(PreCopy, AThrottleThatFailsEndsTheMigration) {
  MigrationRig rig(WithThrottle());
  rig.network.set_bandwidth_bytes_per_second(20'000'000);
  rig.source_vmm.Script("Pause", {.status = absl::UnavailableError("the monitor is gone")});
  Writer writer(&rig, 50, AllPages(rig.options.layout));
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectRolledBack();
  ExpectUntracked(rig);
  EXPECT_THAT(MessageOf(rig.source_result->status), HasSubstr("the monitor is gone"));
}

TEST(PreCopy, RoundsAreLimited) {
  RigOptions options = Mode(MigrationMode::kPreCopy);
  options.budgets = {.rounds_max = 2, .downtime_max_us = 100};
  MigrationRig rig(options);
  rig.network.set_bandwidth_bytes_per_second(20'000'000);
  Writer writer(&rig, 5, AllPages(options.layout));
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectCompleted();
  EXPECT_EQ(rig.source_result->pre_copy->switch_reason, SwitchReason::kRounds);
  EXPECT_EQ(rig.source_result->pre_copy->rounds.size(), 2u);
}

// A page that is written again and again is not sent again and again.
TEST(PreCopy, HybridLeavesHotPagesForPostCopy) {
  RigOptions options = Mode(MigrationMode::kHybrid);
  options.layout = {{"ram", 4000 * 4096, 4096}};
  MigrationRig rig(options);
  rig.network.set_bandwidth_bytes_per_second(20'000'000);
  Writer writer(&rig, 3, {{0, 8}, {0, 9}, {0, 10}, {0, 4}, {0, 5}});
  std::map<PageId, int> sent;
  rig.network.set_page_hook([&](PageRun run) {
    for (uint64_t page = run.first; page < run.end(); ++page) ++sent[{run.region, page}];
  });
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectCompleted();
  rig.ExpectMemoryEqual();
  const PreCopyResult& pre_copy = *rig.source_result->pre_copy;
  EXPECT_LE(pre_copy.rounds.size(), 2u);
  EXPECT_LE(sent[(PageId{0, 9})], 3);
  EXPECT_EQ(sent[(PageId{0, 100})], 1);
}

// Untracking takes long: pages go first.
TEST_P(PreCopyModes, TrackingEndsAfterTheLastPage) {
  MigrationRig rig(Mode(GetParam()));
  rig.Start();
  ASSERT_TRUE(rig.RunUntil([&] { return rig.vm.runs_on_destination; }));
  EXPECT_TRUE(rig.writes.tracked());
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectCompleted();
  ExpectUntracked(rig);
}

TEST(PreCopy, PostCopyKnowsNothingOfIt) {
  MigrationRig rig;
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectCompleted();
  EXPECT_FALSE(rig.source_result->pre_copy.has_value());
  EXPECT_THAT(rig.source_observer.phases(), Not(Contains(Phase::kPreCopy)));
}

// A loaded VM before the last list was answered would run on old memory.
TEST(PreCopy, ADestinationThatAnswersOutOfTurnIsFoundOut) {
  for (Message word : {Message(Loaded{}), Message(RoundReceived{.round = 9})}) {
    MigrationRig rig(Mode(MigrationMode::kHybrid));
    rig.network.set_rewriter([&](const Message& message) -> std::optional<Message> {
      if (std::holds_alternative<RoundReceived>(message)) return word;
      return std::nullopt;
    });
    rig.Start();
    ASSERT_TRUE(rig.RunToEnd());
    rig.ExpectRolledBack();
    ExpectUntracked(rig);
    EXPECT_TRUE(absl::IsInvalidArgument(rig.source_result->status)) << rig.source_result->status;
  }
}

}  // namespace
}  // namespace faultline
