// Whole migrations that end well, and what they report.

#include <gtest/gtest.h>

#include "engine/migration_rig.h"

namespace faultline {
namespace {

TEST(MigrationTest, MovesTheVm) {
  MigrationRig rig;
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectCompleted();
  rig.ExpectMemoryMoved();
  EXPECT_EQ(rig.destination_observer.address(), "fake://1");
  using enum JournalPhase;
  EXPECT_EQ(rig.source_journal.records(),
            (std::vector<JournalPhase>{kPreparing, kFrozen, kCommitted, kCompleted}));
  EXPECT_EQ(
      rig.destination_journal.records(),
      (std::vector<JournalPhase>{kPreparing, kLoaded, kCommitted, kWhole, kReleased, kCompleted}));
  // Not within the downtime, and right after it.
  EXPECT_EQ(rig.source_journal.made_durable_at(), (std::vector<JournalPhase>{kCommitted}));
  EXPECT_EQ(rig.destination_journal.made_durable_at(), (std::vector<JournalPhase>{kCommitted}));
  EXPECT_TRUE(rig.source_observer.notices().empty());
  EXPECT_TRUE(rig.destination_observer.notices().empty());
}

TEST(MigrationTest, GoesThroughThePhasesInOrder) {
  MigrationRig rig;
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  EXPECT_EQ(rig.source_observer.phases(),
            (std::vector<Phase>{Phase::kConnecting, Phase::kPreparing, Phase::kFreezing,
                                Phase::kHandingOver, Phase::kPostCopy, Phase::kCompleted}));
  EXPECT_EQ(rig.destination_observer.phases(),
            (std::vector<Phase>{Phase::kConnecting, Phase::kPreparing, Phase::kHandingOver,
                                Phase::kPostCopy, Phase::kCompleted}));
}

TEST(MigrationTest, ReportsTheSameFiguresOnBothSides) {
  MigrationRig rig;
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  const SessionResult& source = *rig.source_result;
  const SessionResult& destination = *rig.destination_result;
  EXPECT_EQ(source.migration_id, destination.migration_id);
  EXPECT_EQ(source.downtime_us, destination.downtime_us);
  EXPECT_EQ(source.total_us, destination.total_us);
  EXPECT_GT(source.downtime_us, 0u);
  EXPECT_EQ(destination.last.pages_total, 80u);
  EXPECT_EQ(destination.last.pages_absent, 20u);
  EXPECT_EQ(source.last.pages_absent, 20u);
  EXPECT_EQ(destination.last.pages_missing, 0u);
  EXPECT_EQ(source.last.pages_missing, 0u);
  EXPECT_EQ(destination.last.pages_demand + destination.last.pages_pushed, 60u);
  EXPECT_EQ(source.last.pages_pushed, destination.last.pages_pushed);
  EXPECT_GT(source.last.bytes_wire, 60u * 4096);
}

TEST(MigrationTest, AVmThatWasPausedStaysPaused) {
  MigrationRig rig({.seed = {}, .vm_running = false});
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectCompleted();
  rig.ExpectMemoryMoved();
}

// Its operator may pause it, or let it go on, between the preparation and the freeze.
TEST(MigrationTest, WhetherTheVmRunsIsDecidedByTheFreeze) {
  for (bool runs_at_freeze : {true, false}) {
    SCOPED_TRACE(runs_at_freeze);
    MigrationRig rig({.seed = {}, .vm_running = !runs_at_freeze});
    rig.source_vmm.set_layout_at_freeze(DescribeVm(RigOptions{}.layout, runs_at_freeze));
    rig.Start();
    ASSERT_TRUE(rig.RunToEnd());
    EXPECT_TRUE(rig.source_result->status.ok());
    EXPECT_TRUE(rig.destination_result->status.ok());
    EXPECT_EQ(rig.vm.runs_on_destination, runs_at_freeze);
    EXPECT_FALSE(rig.vm.runs_on_source);
  }
}

TEST(MigrationTest, AVmThatNeverAllocatedAPage) {
  MigrationRig rig({.seed = {}, .vm_running = true, .with_data = false});
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectCompleted();
  rig.ExpectMemoryMoved();
  EXPECT_EQ(rig.destination_result->last.pages_absent, 80u);
}

TEST(MigrationTest, FaultsWhileDevicesLoadAreServed) {
  MigrationRig rig;
  int touched = 0;
  rig.destination_vmm.set_load_hook([&](std::function<void()> go_on) {
    rig.guest->Touch({0, 5}, [&](const std::vector<std::byte>& page) {
      EXPECT_EQ(page[0], MigrationRig::SourceByte({0, 5}));
      ++touched;
    });
    rig.guest->Touch({0, 3}, [&touched, go_on](const std::vector<std::byte>& page) {
      EXPECT_EQ(page[0], std::byte{0});
      ++touched;
      go_on();
    });
  });
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  EXPECT_EQ(touched, 2);
  rig.ExpectCompleted();
  rig.ExpectMemoryMoved();
  EXPECT_GE(rig.destination_result->last.pages_demand, 1u);
}

// Each page comes once over one lane or the other, and late answers change nothing.
TEST(MigrationTest, AGuestThatTouchesEverythingAtOnce) {
  MigrationRig rig;
  rig.network.set_bandwidth_bytes_per_second(20'000'000);
  rig.Start();
  ASSERT_TRUE(rig.RunUntil([&] { return rig.vm.runs_on_destination; }));
  int touched = 0;
  for (uint64_t page = 64; page-- > 0;) {
    rig.guest->Touch({0, page}, [&](const std::vector<std::byte>&) { ++touched; });
  }
  ASSERT_TRUE(rig.RunToEnd());
  EXPECT_EQ(touched, 64);
  rig.ExpectCompleted();
  rig.ExpectMemoryMoved();
  EXPECT_EQ(rig.destination_result->fault_latency_us.count,
            rig.destination_result->last.pages_demand);
}

// The end of one side's lane must not look like a failure to the other: this once failed the
// source when the destination had just got its last page.
TEST(MigrationTest, EndsCleanlyWhateverIsSlow) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    SCOPED_TRACE(seed);
    RigOptions options;
    options.seed = seed;
    MigrationRig rig(options);
    rig.network.set_latency_us(static_cast<int64_t>(20 + seed * 37));
    rig.destination_vmm.Script("Finish", {.delay_us = static_cast<int64_t>(seed * 1000)});
    rig.source_vmm.Script("Retire", {.delay_us = static_cast<int64_t>((50 - seed) * 1000)});
    rig.Start();
    ASSERT_TRUE(rig.RunToEnd());
    rig.ExpectCompleted();
    rig.ExpectMemoryMoved();
  }
}

TEST(MigrationTest, TheSourceMayGoOnceEverythingHasArrived) {
  MigrationRig rig;
  rig.limits.recovery_timeout_us = 50'000'000;
  rig.destination_vmm.Script("Finish", {.delay_us = 5000});
  rig.destination_vmm.OnCall([&](const std::string& name) {
    if (name == "Finish") rig.network.Cut();
  });
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  EXPECT_TRUE(rig.destination_result->status.ok()) << rig.destination_result->status;
  EXPECT_EQ(rig.destination_vmm.CountOf("Finish"), 1u);
  rig.ExpectOneOwner();
  rig.ExpectMemoryMoved();
  EXPECT_EQ(rig.source_result->owner, VmOwner::kDestination);
  EXPECT_FALSE(rig.source_result->status.ok());  // nobody told it
  EXPECT_TRUE(rig.destination_observer.Noticed("all memory has arrived"));
}

TEST(MigrationTest, OutOfMemoryPausesTheVmUntilThereIsRoom) {
  MigrationRig rig;
  rig.destination_vmm.OnCall([&](const std::string& name) {
    if (name == "TakeOver") rig.guest->FailInstalls(InstallOutcome::kNoSpace, 6, ENOSPC);
  });
  rig.Start();
  ASSERT_TRUE(rig.RunUntil([&] { return rig.destination_vmm.CountOf("Pause") == 1; }));
  rig.guest->Touch({0, 60});  // the other lane is out of memory as well
  ASSERT_TRUE(rig.RunToEnd());
  EXPECT_EQ(rig.destination_vmm.CountOf("Continue"), rig.destination_vmm.CountOf("Pause"));
  EXPECT_TRUE(rig.destination_observer.Noticed("no memory left"));
  EXPECT_TRUE(rig.destination_observer.Noticed("there is room again"));
  rig.ExpectCompleted();
  rig.ExpectMemoryMoved();
}

TEST(MigrationTest, OutOfMemoryNeverStartsAVmThatItsOperatorPaused) {
  MigrationRig rig({.seed = {}, .vm_running = false});
  rig.destination_vmm.OnCall([&](const std::string& name) {
    if (name == "TakeOver") rig.guest->FailInstalls(InstallOutcome::kNoSpace, 6, ENOSPC);
  });
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  EXPECT_EQ(rig.destination_vmm.CountOf("Continue"), 0u);
  rig.ExpectCompleted();
  rig.ExpectMemoryMoved();
}

TEST(MigrationTest, NoRoomWhileDevicesLoad) {
  MigrationRig rig;
  rig.destination_vmm.set_load_hook([&](std::function<void()> go_on) {
    rig.guest->FailInstalls(InstallOutcome::kNoSpace, 3, ENOSPC);
    rig.guest->Touch({0, 5}, [go_on](const std::vector<std::byte>&) { go_on(); });
  });
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectCompleted();
  rig.ExpectMemoryMoved();
}

TEST(MigrationTest, AGuestThatGivesUpEverythingThatIsMissing) {
  MigrationRig rig;
  rig.network.set_bandwidth_bytes_per_second(1'000'000);
  bool returned = false;
  rig.destination_vmm.OnCall([&](const std::string& name) {
    if (name != "TakeOver") return;
    rig.guest->DiscardByGuest({0, 0, 64}, [&] { returned = true; });
    rig.guest->DiscardByGuest({1, 0, 16});
  });
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  EXPECT_TRUE(returned);
  rig.ExpectCompleted();
  for (uint64_t page = 0; page < 64; ++page) {
    EXPECT_EQ(rig.guest->BytesOf({0, page})[0], std::byte{0});
  }
}

// A big VM's map takes longer to read than its devices: the VM does not wait for it.
TEST(MigrationTest, RunsBeforeTheAllocationMapIsRead) {
  MigrationRig rig;
  rig.Start();
  ASSERT_TRUE(rig.RunUntil([&] { return !rig.vm.runs_on_source; }));
  rig.source_threads.bulk.HoldUntil(rig.clock.now_ns() + 500'000'000);
  ASSERT_TRUE(rig.RunUntil([&] { return rig.vm.runs_on_destination; }));
  int touched = 0;
  for (PageId page : {PageId{0, 5}, PageId{0, 3}}) {
    rig.guest->Touch(page, [&, page](const std::vector<std::byte>& bytes) {
      EXPECT_EQ(bytes[0], rig.source_byte(page));
      ++touched;
    });
  }
  ASSERT_TRUE(rig.RunUntil([&] { return touched == 2; }, 100'000));
  EXPECT_EQ(rig.destination_result, std::nullopt);
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectCompleted();
  rig.ExpectMemoryMoved();
}

// After the handover nothing may keep the memory back: holes are sent as well then.
TEST(MigrationTest, AMapThatCannotBeRead) {
  MigrationRig rig;
  rig.map_failure = absl::InternalError("lseek: input/output error");
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectCompleted();
  rig.ExpectMemoryMoved();
  EXPECT_EQ(rig.destination_result->last.pages_absent, 0u);
}

// All data is given up before anything else is known of it: nothing is left to wait for.
TEST(MigrationTest, DiscardsBeforeTheAllocationMap) {
  MigrationRig rig;
  rig.destination_vmm.OnCall([&](const std::string& name) {
    if (name != "Load") return;
    rig.guest->DiscardByGuest({0, 0, 64});
    rig.guest->DiscardByGuest({1, 0, 16});
  });
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectCompleted();
}

TEST(MigrationTest, AVmThatCannotBeStartedKeepsItsMemory) {
  MigrationRig rig;
  rig.destination_vmm.Script("TakeOver", {.status = absl::InternalError("cont: disk is locked")});
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectOneOwner();
  rig.ExpectMemoryMoved();
  for (const auto* result : {&*rig.source_result, &*rig.destination_result}) {
    EXPECT_EQ(result->owner, VmOwner::kDestination);
    EXPECT_NE(MessageOf(result->status).find("disk is locked"), std::string::npos)
        << result->status;
  }
  EXPECT_EQ(rig.source_vmm.CountOf("Retire"), 0u);
  // Nothing is left that either command could take up.
  EXPECT_EQ(rig.source_journal.records().back(), JournalPhase::kCompleted);
  EXPECT_EQ(rig.destination_journal.records().back(), JournalPhase::kCompleted);
  EXPECT_TRUE(rig.guest->disarmed());
}

}  // namespace
}  // namespace faultline
