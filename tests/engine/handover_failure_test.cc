// What happens to the VM when a part of either side fails, at every step.

#include <gtest/gtest.h>

#include "engine/migration_rig.h"

namespace faultline {
namespace {

void ExpectMentions(const absl::Status& status, const std::string& part) {
  EXPECT_NE(MessageOf(status).find(part), std::string::npos) << status;
}

void ExpectNotice(const RecordingObserver& observer, const std::string& part) {
  EXPECT_TRUE(observer.Noticed(part)) << part;
}

TEST(HandoverFailureTest, AVmThatCannotMoveIsLeftAlone) {
  MigrationRig rig;
  rig.source_vmm.Script("Prepare",
                        {.status = absl::FailedPreconditionError("vhost-user is there")});
  rig.Start();
  ASSERT_TRUE(rig.RunUntil([&] { return rig.source_result.has_value(); }));
  rig.ExpectRolledBack();
  ExpectMentions(rig.source_result->status, "vhost-user is there");
  EXPECT_FALSE(rig.destination_result.has_value());  // it still waits for somebody
}

TEST(HandoverFailureTest, TheSourcesVmmFails) {
  for (const char* call : {"Freeze", "SaveDevices"}) {
    SCOPED_TRACE(call);
    MigrationRig rig;
    rig.source_vmm.Script(call, {.status = absl::InternalError("the stream broke")});
    rig.Start();
    ASSERT_TRUE(rig.RunToEnd());
    rig.ExpectRolledBack();
    ExpectMentions(rig.source_result->status, "the stream broke");
    ExpectMentions(rig.destination_result->status, "the stream broke");
    EXPECT_EQ(rig.destination_journal.records().back(), JournalPhase::kRolledBack);
  }
}

TEST(HandoverFailureTest, TheDestinationsVmmFails) {
  for (const char* call : {"DescribeAgain", "Load"}) {
    SCOPED_TRACE(call);
    MigrationRig rig;
    rig.destination_vmm.Script(call, {.status = absl::InternalError("no device 'e1000'")});
    rig.Start();
    ASSERT_TRUE(rig.RunToEnd());
    rig.ExpectRolledBack();
    ExpectMentions(rig.source_result->status, "no device 'e1000'");
    ExpectMentions(rig.destination_result->status, "no device 'e1000'");
  }
}

TEST(HandoverFailureTest, ADestinationThatIsNotFitNeverListens) {
  MigrationRig rig;
  rig.destination_vmm.Script("Prepare", {.status = absl::FailedPreconditionError("not inmigrate")});
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectRolledBack();
  ExpectMentions(rig.destination_result->status, "not inmigrate");
  ExpectMentions(rig.source_result->status, "refused");
  EXPECT_TRUE(rig.destination_observer.address().empty());
}

TEST(HandoverFailureTest, AVmmThatHangsWhileTheVmStandsStill) {
  for (bool at_source : {true, false}) {
    SCOPED_TRACE(at_source);
    MigrationRig rig;
    rig.limits.handover_timeout_us = 1'500'000;
    if (at_source) {
      rig.source_vmm.Script("SaveDevices", {.hangs = true});
    } else {
      rig.destination_vmm.Script("Load", {.hangs = true});
    }
    rig.Start();
    ASSERT_TRUE(rig.RunToEnd());
    rig.ExpectRolledBack();
    ExpectMentions(rig.source_result->status, "did not load the VM within");
  }
}

TEST(HandoverFailureTest, RollbackThatFailsIsSaid) {
  MigrationRig rig;
  rig.source_vmm.Script("SaveDevices", {.status = absl::InternalError("the stream broke")});
  rig.source_vmm.Script("Rollback", {.status = absl::UnavailableError("the monitor is gone")});
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectOneOwner();
  ExpectMentions(rig.source_result->status, "the monitor is gone");
  ExpectMentions(rig.source_result->status, "the stream broke");
  EXPECT_EQ(rig.source_result->owner, VmOwner::kSource);
}

TEST(HandoverFailureTest, ADiscardThatFailsIsSaid) {
  MigrationRig rig;
  rig.destination_vmm.Script("Load", {.status = absl::InternalError("no device")});
  rig.destination_vmm.Script("Discard", {.status = absl::UnavailableError("it does not die")});
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectOneOwner();
  ExpectNotice(rig.destination_observer, "it does not die");
  EXPECT_TRUE(rig.vm.runs_on_source);
}

TEST(HandoverFailureTest, TidyingUpThatFailsIsOnlyANotice) {
  MigrationRig rig;
  rig.destination_vmm.Script("Finish", {.status = absl::InternalError("finish failed")});
  rig.source_vmm.Script("Retire", {.status = absl::InternalError("retire failed")});
  rig.source_journal.FailAt(JournalPhase::kCompleted);
  rig.destination_journal.FailAt(JournalPhase::kCompleted);
  rig.source_journal.FailMakeDurable();
  rig.destination_journal.FailMakeDurable();
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  EXPECT_TRUE(rig.source_result->status.ok());
  EXPECT_TRUE(rig.destination_result->status.ok());
  ExpectNotice(rig.destination_observer, "finish failed");
  ExpectNotice(rig.source_observer, "retire failed");
  for (const auto* observer : {&rig.source_observer, &rig.destination_observer}) {
    ExpectNotice(*observer, "the journal is full");
    ExpectNotice(*observer, "does not survive this host's crash");
  }
}

// Nobody waits for a page any more when the VM's process does not say so in time (ADR 20).
TEST(HandoverFailureTest, AVmThatIsSlowToLetItsMemoryGoIsOnlyANotice) {
  MigrationRig rig;
  rig.Start();
  ASSERT_TRUE(rig.RunUntil([&] { return rig.guest != nullptr; }));
  rig.guest->SetDisarmNotice("the hook does not answer");
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectCompleted();
  ExpectNotice(rig.destination_observer, "the hook does not answer");
  EXPECT_TRUE(rig.destination_journal.Has(JournalPhase::kReleased));
}

TEST(HandoverFailureTest, AVmThatEndsBeforeItsMemoryIsLetGoNeedsNothing) {
  MigrationRig rig;
  rig.destination_vmm.Script("Finish", {.status = absl::UnavailableError("nobody there")});
  rig.Start();
  ASSERT_TRUE(rig.RunUntil([&] { return rig.guest != nullptr; }));
  rig.guest->FailDisarm(absl::UnavailableError("the hypervisor has ended"));
  ASSERT_TRUE(rig.RunToEnd());
  for (const auto* result : {&*rig.source_result, &*rig.destination_result}) {
    EXPECT_TRUE(result->status.ok()) << result->status;
    EXPECT_EQ(result->owner, VmOwner::kDestination);
  }
  ExpectNotice(rig.destination_observer, "has ended since");
}

// The push waits for it; heartbeats and whoever misses a page do not.
TEST(HandoverFailureTest, ADiskThatStallsAfterTheHandoverHoldsUpThePushOnly) {
  MigrationRig rig;
  rig.network.set_bandwidth_bytes_per_second(1'000'000);
  rig.network.set_push_window_bytes(16 * 1024);
  int stalled = 0;
  const auto stall = [&](FakeJournal* journal, RigThreads* threads) {
    journal->OnMakeDurable([&, threads] {
      EXPECT_EQ(rig.clock.current(), &threads->bulk);
      threads->bulk.HoldUntil(rig.clock.now_ns() + 20'000'000'000);
      ++stalled;
    });
  };
  stall(&rig.source_journal, &rig.source_threads);
  stall(&rig.destination_journal, &rig.destination_threads);
  rig.Start();
  ASSERT_TRUE(rig.RunUntil([&] { return stalled == 2; }));
  rig.clock.AdvanceBy(10'000'000);
  ASSERT_GT(rig.guest->table().missing_pages(), 0u);
  bool touched = false;
  rig.guest->Touch({0, 60}, [&](const std::vector<std::byte>&) { touched = true; });
  rig.clock.AdvanceBy(100'000);
  EXPECT_TRUE(touched);
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectCompleted();
  rig.ExpectMemoryMoved();
  EXPECT_EQ(rig.source_result->last.reconnects, 0u);
}

TEST(HandoverFailureTest, MemoryThatCannotBeHad) {
  using Failure = absl::Status MigrationRig::*;
  for (Failure failure : {&MigrationRig::open_failure, &MigrationRig::arm_failure}) {
    MigrationRig rig;
    rig.*failure = absl::ResourceExhaustedError("no room for the VM");
    rig.Start();
    bool reached = failure != &MigrationRig::open_failure;
    ASSERT_TRUE(rig.RunUntil([&] {
      return rig.source_result.has_value() && (!reached || rig.destination_result.has_value());
    }));
    rig.ExpectRolledBack();
    ExpectMentions(rig.source_result->status, "no room for the VM");
    if (reached) ExpectMentions(rig.destination_result->status, "no room for the VM");
  }
}

TEST(HandoverFailureTest, MemoryThatIsRefusedBeforeAnybodyComes) {
  MigrationRig rig;
  rig.check_failure = absl::FailedPreconditionError("the RAM file holds data");
  rig.StartDestination();
  ASSERT_TRUE(rig.RunUntil([&] { return rig.destination_result.has_value(); }));
  ExpectMentions(rig.destination_result->status, "the RAM file holds data");
  EXPECT_TRUE(rig.destination_observer.address().empty());
}

TEST(HandoverFailureTest, LayoutsThatChangeBeforeTheFreeze) {
  MemoryLayout plugged = RigOptions{}.layout;
  plugged.push_back({"dimm1", 4096, 4096});
  for (bool at_source : {true, false}) {
    SCOPED_TRACE(at_source);
    MigrationRig rig;
    if (at_source) {
      rig.source_vmm.set_layout_at_freeze(DescribeVm(plugged, true));
    } else {
      rig.destination_vmm.set_layout_again(DescribeVm(plugged, false));
    }
    rig.Start();
    ASSERT_TRUE(rig.RunToEnd());
    rig.ExpectRolledBack();
    ExpectMentions(rig.source_result->status, "changed");
    ExpectMentions(rig.destination_result->status, "changed");
  }
}

TEST(HandoverFailureTest, TheJournalFailsBeforeTheHandover) {
  struct Case {
    bool at_source;
    JournalPhase phase;
  };
  using enum JournalPhase;
  for (Case c : {Case{true, kFrozen}, Case{true, kCommitted}, Case{false, kLoaded}}) {
    SCOPED_TRACE(static_cast<int>(c.phase));
    MigrationRig rig;
    (c.at_source ? rig.source_journal : rig.destination_journal).FailAt(c.phase);
    rig.Start();
    ASSERT_TRUE(rig.RunToEnd());
    rig.ExpectRolledBack();
    ExpectMentions(rig.source_result->status, "journal");
    ExpectMentions(rig.destination_result->status, "journal");
  }
}

// The one who would put the VM back to work if this process died is gone.
TEST(HandoverFailureTest, TheSourcesVmmHasAReasonNotToHandOver) {
  MigrationRig rig;
  rig.source_vmm.set_may_hand_over(absl::AbortedError("the guardian process has died"));
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectRolledBack();
  ExpectMentions(rig.source_result->status, "guardian");
  ExpectMentions(rig.destination_result->status, "guardian");
}

// What its memory holds then is not the VM's any more.
TEST(HandoverFailureTest, AVmThatRunsOnTheSourceAgainIsServedNoMore) {
  MigrationRig rig;
  rig.source_vmm.set_stands_still(absl::FailedPreconditionError("the VM runs here as well"));
  rig.limits.progress_interval_us = 10;
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  ExpectMentions(rig.source_result->status, "runs here as well");
  ExpectMentions(rig.destination_result->status, "runs here as well");
  EXPECT_EQ(rig.source_result->owner, VmOwner::kDestination);
  EXPECT_EQ(rig.destination_result->owner, VmOwner::kDestination);
  EXPECT_FALSE(rig.source_journal.Has(JournalPhase::kCompleted));
}

TEST(HandoverFailureTest, TheJournalFailsAtOnce) {
  for (bool at_source : {true, false}) {
    MigrationRig rig;
    (at_source ? rig.source_journal : rig.destination_journal).FailAt(JournalPhase::kPreparing);
    at_source ? rig.StartSource() : rig.StartDestination();
    auto& result = at_source ? rig.source_result : rig.destination_result;
    ASSERT_TRUE(rig.RunUntil([&] { return result.has_value(); }));
    ExpectMentions(result->status, "write the journal");
    EXPECT_EQ(result->owner, VmOwner::kSource);
    EXPECT_TRUE(rig.vm.runs_on_source);
  }
}

// The source's record counts; this one only helps who looks here.
TEST(HandoverFailureTest, TheDestinationsRecordOfTheHandoverFails) {
  MigrationRig rig;
  rig.destination_journal.FailAt(JournalPhase::kCommitted);
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectCompleted();
  rig.ExpectMemoryMoved();
  ExpectNotice(rig.destination_observer, "could not be recorded");
}

TEST(HandoverFailureTest, NobodyListens) {
  MigrationRig rig;
  rig.StartSource();
  ASSERT_TRUE(rig.RunUntil([&] { return rig.source_result.has_value(); }));
  rig.ExpectRolledBack();
  ExpectMentions(rig.source_result->status, "refused");
}

TEST(HandoverFailureTest, TheDestinationsVmDiesAfterTheHandover) {
  MigrationRig rig;
  rig.network.set_bandwidth_bytes_per_second(1'000'000);
  rig.Start();
  ASSERT_TRUE(rig.RunUntil([&] { return rig.vm.runs_on_destination; }));
  rig.guest->KillVm();
  ASSERT_TRUE(rig.RunToEnd());
  EXPECT_FALSE(rig.vm.runs_on_source);
  for (const auto* result : {&*rig.source_result, &*rig.destination_result}) {
    EXPECT_EQ(result->owner, VmOwner::kDestination);
    ExpectMentions(result->status, "gone");
  }
}

// QEMU lets it go while its pages are on their way: they have no place any more.
TEST(HandoverFailureTest, MemoryIsUnpluggedAfterTheHandover) {
  MigrationRig rig;
  rig.network.set_bandwidth_bytes_per_second(1'000'000);
  rig.Start();
  ASSERT_TRUE(rig.RunUntil([&] { return rig.vm.runs_on_destination; }));
  rig.guest->FailInstalls(InstallOutcome::kGone, 1);
  ASSERT_TRUE(rig.RunToEnd());
  EXPECT_TRUE(rig.vm.runs_on_destination);
  EXPECT_FALSE(rig.guest->disarmed()) << "what is missing elsewhere must not turn into zeros";
  EXPECT_EQ(rig.destination_vmm.CountOf("Discard"), 0u);
  for (const auto* result : {&*rig.source_result, &*rig.destination_result}) {
    EXPECT_EQ(result->owner, VmOwner::kDestination);
    ExpectMentions(result->status, "gone");
  }
}

TEST(HandoverFailureTest, InstallingFailsWhileDevicesLoad) {
  MigrationRig rig;
  rig.destination_vmm.set_load_hook([&](std::function<void()>) {
    rig.guest->FailInstalls(InstallOutcome::kFailed, 1, EINVAL);
    rig.guest->Touch({0, 5});
  });
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectRolledBack();
  ExpectMentions(rig.destination_result->status, "install page 5 of RAM block 'ram0'");
}

TEST(HandoverFailureTest, ASecondSourceIsTurnedDown) {
  MigrationRig rig;
  rig.network.set_bandwidth_bytes_per_second(1'000'000);
  rig.Start();
  ASSERT_TRUE(rig.RunUntil([&] { return rig.vm.runs_on_destination; }));
  RigThreads other_threads(&rig.clock, "other");
  FakeSourceTransport other(&rig.network, &other_threads.control, &other_threads.demand,
                            &other_threads.bulk);
  RecordingObserver observer;
  FakeJournal journal;
  FakeVm vm;
  FakeSourceVmm vmm(&other_threads.control, &vm, DescribeVm(rig.options.layout, true));
  SourceSession session({.control = &other_threads.control,
                         .demand = &other_threads.demand,
                         .bulk = &other_threads.bulk,
                         .vmm = &vmm,
                         .memory_factory = rig.source_factory.get(),
                         .transport = &other,
                         .push_order = nullptr,
                         .journal = &journal,
                         .observer = &observer},
                        {.id = {9}, .quit_source = false, .limits = {}});
  std::optional<SessionResult> result;
  other_threads.control.Post(
      [&] { session.Start([&](SessionResult ended) { result = std::move(ended); }); });
  ASSERT_TRUE(rig.RunUntil([&] { return result.has_value(); }));
  ExpectMentions(result->status, "another migration is under way");
  EXPECT_TRUE(absl::IsUnavailable(result->status));
  EXPECT_TRUE(vm.runs_on_source);
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectCompleted();
  rig.ExpectMemoryMoved();
}

}  // namespace
}  // namespace faultline
