// Sessions that die after the handover, and others that go on in their place.

#include <gtest/gtest.h>

#include <limits>

#include "engine/migration_rig.h"
#include "fakes/fake_push_order.h"

namespace faultline {
namespace {

constexpr int64_t kForeverNs = int64_t{1} << 60;

// A migration whose sides can be killed: what runs on a dead one's threads never runs again.
struct MortalRig : MigrationRig {
  MortalRig() {
    network.set_bandwidth_bytes_per_second(1'000'000);
    network.set_push_window_bytes(16 * 1024);
  }
  ~MortalRig() {
    again_source.reset();
    again_destination.reset();
  }

  void RunUntilPostCopy() {
    Start();
    ASSERT_TRUE(RunUntil([&] { return vm.runs_on_destination; }));
    clock.AdvanceBy(80'000);
  }
  static void Halt(RigThreads* threads) {
    for (ManualExecutor* executor : {&threads->control, &threads->demand, &threads->bulk}) {
      executor->HoldUntil(kForeverNs);
    }
  }
  void KillSource() {
    Halt(&source_threads);
    source.reset();
    network.CutHalf(/*source_hears=*/false);
  }
  void KillDestination() {
    Halt(&destination_threads);
    destination.reset();
    network.StopListening();
    network.CutHalf(/*source_hears=*/true);
  }
  void KillBoth() {
    Halt(&source_threads);
    Halt(&destination_threads);
    source.reset();
    destination.reset();
    network.StopListening();
    network.CutUnheard();
  }
  void ResumeSource() {
    again_source_vmm = std::make_unique<FakeSourceVmm>(&again_source_threads.control, &vm,
                                                       DescribeVm(options.layout, false));
    again_source_transport = std::make_unique<FakeSourceTransport>(
        &network, &again_source_threads.control, &again_source_threads.demand,
        &again_source_threads.bulk);
    again_source = std::make_unique<SourceSession>(
        SourceSession::Parts{.control = &again_source_threads.control,
                             .demand = &again_source_threads.demand,
                             .bulk = &again_source_threads.bulk,
                             .vmm = again_source_vmm.get(),
                             .memory_factory = source_factory.get(),
                             .transport = again_source_transport.get(),
                             .push_order = std::make_unique<FakePushOrder>(),
                             .journal = &source_journal,
                             .observer = &source_observer},
        SourceSession::Options{.id = {1, 2, 3},
                               .quit_source = false,
                               .resume = SourceSession::Resume{.token = {7, 7, 7}, .run = true},
                               .limits = limits});
    again_source_threads.control.Post([this] {
      again_source->Start([this](SessionResult result) { source_result = std::move(result); });
    });
  }
  void ResumeDestination(bool committed, bool whole = false) {
    if (guest != nullptr) guest->MoveTo(&again_destination_threads.demand);
    again_destination_vmm = std::make_unique<FakeDestinationVmm>(
        &again_destination_threads.control, &vm, DescribeVm(options.layout, false));
    if (whole) again_destination_vmm->set_taken_over();
    again_destination_transport = std::make_unique<FakeDestinationTransport>(
        &network, &again_destination_threads.control, &again_destination_threads.demand,
        &again_destination_threads.bulk);
    again_destination = std::make_unique<DestinationSession>(
        DestinationSession::Parts{.control = &again_destination_threads.control,
                                  .demand = &again_destination_threads.demand,
                                  .bulk = &again_destination_threads.bulk,
                                  .vmm = again_destination_vmm.get(),
                                  .memory_factory = guest_factory.get(),
                                  .transport = again_destination_transport.get(),
                                  .journal = &destination_journal,
                                  .observer = &destination_observer},
        DestinationSession::Options{
            .token = {7, 7, 7},
            .resume = DestinationSession::Resume{.id = {1, 2, 3},
                                                 .committed = committed,
                                                 .whole = whole,
                                                 .released = destination_journal.Has(
                                                     JournalPhase::kReleased)},
            .limits = limits});
    again_destination_threads.control.Post([this] {
      again_destination->Start(
          [this](SessionResult result) { destination_result = std::move(result); });
    });
  }
  void ExpectEndedWell() {
    ASSERT_TRUE(RunToEnd(600'000'000));
    for (auto* result : {&*source_result, &*destination_result}) {
      EXPECT_TRUE(result->status.ok()) << result->status;
      EXPECT_EQ(result->owner, VmOwner::kDestination);
      EXPECT_EQ(result->migration_id, "01020300000000000000000000000000");
    }
    ExpectMemoryMoved();
    ExpectOneOwner();
    EXPECT_TRUE(vm.runs_on_destination);
    EXPECT_TRUE(guest->disarmed());
    EXPECT_EQ(source_journal.records().back(), JournalPhase::kCompleted);
    EXPECT_EQ(destination_journal.records().back(), JournalPhase::kCompleted);
  }

  RigThreads again_source_threads{&clock, "source again"};
  RigThreads again_destination_threads{&clock, "destination again"};
  std::unique_ptr<FakeSourceVmm> again_source_vmm;
  std::unique_ptr<FakeDestinationVmm> again_destination_vmm;
  std::unique_ptr<FakeSourceTransport> again_source_transport;
  std::unique_ptr<FakeDestinationTransport> again_destination_transport;
  std::unique_ptr<SourceSession> again_source;
  std::unique_ptr<DestinationSession> again_destination;
};

TEST(ResumeTest, TheSourceDies) {
  MortalRig rig;
  rig.RunUntilPostCopy();
  rig.KillSource();
  rig.clock.AdvanceBy(20'000'000);
  rig.ResumeSource();
  rig.ExpectEndedWell();
  EXPECT_EQ(rig.again_source_vmm->CountOf("Retire"), 1u);
  EXPECT_EQ(rig.again_source_vmm->CountOf("Rollback"), 0u);
  EXPECT_GT(rig.source_result->last.reconnects, 0u);
}

TEST(ResumeTest, TheDestinationDies) {
  MortalRig rig;
  rig.RunUntilPostCopy();
  int touched = 0;
  rig.guest->Touch({0, 60}, [&](const std::vector<std::byte>&) { ++touched; });
  rig.KillDestination();
  rig.clock.AdvanceBy(20'000'000);
  rig.guest->Touch({0, 61}, [&](const std::vector<std::byte>&) { ++touched; });
  EXPECT_EQ(touched, 0);
  const uint64_t missing = rig.guest->table().missing_pages();
  ASSERT_GT(missing, 0u);
  rig.ResumeDestination(/*committed=*/true);
  rig.ExpectEndedWell();
  EXPECT_EQ(touched, 2);
  EXPECT_EQ(rig.again_destination_vmm->CountOf("TakeOver"), 1u);
  // Absent ones among them.
  EXPECT_LE(rig.destination_result->last.pages_demand + rig.destination_result->last.pages_pushed,
            missing);
}

// The new command says that the VM runs when the source has pushed again for long.
TEST(ResumeTest, TheVmTakesItsTimeToBeTakenOverAgain) {
  MortalRig rig;
  rig.RunUntilPostCopy();
  rig.KillDestination();
  rig.ResumeDestination(/*committed=*/true);
  rig.again_destination_vmm->Script("TakeOver", {.delay_us = 1'000'000});
  rig.ExpectEndedWell();
}

TEST(ResumeTest, BothDie) {
  for (bool source_first : {true, false}) {
    MortalRig rig;
    rig.RunUntilPostCopy();
    rig.KillBoth();
    rig.clock.AdvanceBy(1'000'000);
    source_first ? rig.ResumeSource() : rig.ResumeDestination(true);
    rig.clock.AdvanceBy(30'000'000);
    source_first ? rig.ResumeDestination(true) : rig.ResumeSource();
    rig.ExpectEndedWell();
  }
}

TEST(ResumeTest, TheDestinationDiesBeforeItHeardCommit) {
  MortalRig rig;
  bool held = false;
  rig.network.set_control_hook([&](const Message& message, bool) {
    if (!std::holds_alternative<Commit>(message) || std::exchange(held, true)) {
      return FakeFate::kDeliver;
    }
    return FakeFate::kDrop;
  });
  rig.Start();
  ASSERT_TRUE(rig.RunUntil([&] { return held; }));
  rig.KillDestination();
  rig.clock.AdvanceBy(2'000'000);
  rig.ResumeDestination(/*committed=*/false);
  rig.ExpectEndedWell();
  EXPECT_TRUE(rig.destination_observer.Noticed("only the source can say"));
}

// All had arrived, but nobody had been told.
TEST(ResumeTest, TheDestinationDiesWithItsLastPageIn) {
  MortalRig rig;
  rig.RunUntilPostCopy();
  ASSERT_TRUE(rig.RunUntil([&] { return rig.guest->table().missing_pages() == 0; }));
  rig.KillDestination();
  rig.ResumeDestination(true);
  rig.ExpectEndedWell();
}

// The source is told by the one that comes after it, whether its memory was let go or not.
TEST(ResumeTest, TheDestinationDiesBeforeTheSourceKnowsThatAllIsThere) {
  for (bool released : {false, true}) {
    MortalRig rig;
    rig.RunUntilPostCopy();
    ASSERT_TRUE(rig.RunUntil([&] {
      return released ? rig.guest->disarmed()
                      : rig.destination_journal.records().back() == JournalPhase::kWhole;
    }));
    EXPECT_EQ(rig.guest->disarmed(), released);
    EXPECT_EQ(rig.destination_journal.records().back(), JournalPhase::kWhole);
    rig.KillDestination();
    rig.clock.AdvanceBy(20'000'000);
    EXPECT_FALSE(rig.source_result.has_value()) << "it cannot know";
    rig.ResumeDestination(/*committed=*/true, /*whole=*/true);
    rig.ExpectEndedWell();
    EXPECT_EQ(rig.again_destination_vmm->CountOf("TakeOver"), 0u) << "the VM is let alone";
  }
}

// The migration was complete; what became of the VM since is another matter, and is said.
TEST(ResumeTest, TheVmHasEndedSinceAllWasThere) {
  for (int way = 0; way < 4; ++way) {
    const bool released = way % 2 == 1;
    const bool file_is_gone = way >= 2;
    SCOPED_TRACE(way);
    MortalRig rig;
    rig.RunUntilPostCopy();
    ASSERT_TRUE(rig.RunUntil([&] {
      return rig.destination_journal.Has(released ? JournalPhase::kReleased : JournalPhase::kWhole);
    }));
    rig.KillDestination();
    rig.arm_failure = absl::NotFoundError("no such hook");
    rig.ResumeDestination(/*committed=*/true, /*whole=*/true);
    const absl::Status ended = absl::UnavailableError("nobody serves the monitor");
    if (file_is_gone) rig.again_destination_vmm->Script("Prepare", {.status = ended});
    rig.again_destination_vmm->Script("Finish", {.status = ended});
    ASSERT_TRUE(rig.RunToEnd(600'000'000));
    for (const auto& result : {rig.source_result, rig.destination_result}) {
      EXPECT_TRUE(result->status.ok()) << result->status;
      EXPECT_EQ(result->owner, VmOwner::kDestination);
    }
    EXPECT_EQ(rig.destination_journal.records().back(), JournalPhase::kCompleted);
    EXPECT_TRUE(rig.destination_observer.Noticed("has ended since"));
  }
}

// Its hook cannot be reached, and it lives: its memory is armed still.
TEST(ResumeTest, TheVmLivesAndItsMemoryCannotBeLetGo) {
  MortalRig rig;
  rig.RunUntilPostCopy();
  ASSERT_TRUE(rig.RunUntil([&] { return rig.destination_journal.Has(JournalPhase::kWhole); }));
  rig.KillDestination();
  rig.arm_failure = absl::NotFoundError("no such hook");
  rig.ResumeDestination(/*committed=*/true, /*whole=*/true);
  ASSERT_TRUE(rig.RunUntil([&] { return rig.destination_result.has_value(); }));
  EXPECT_TRUE(absl::IsNotFound(rig.destination_result->status));
  EXPECT_EQ(rig.destination_result->owner, VmOwner::kDestination);
  EXPECT_EQ(rig.destination_journal.records().back(), JournalPhase::kWhole);
}

// Somebody has to, so that the migration is not over.
TEST(ResumeTest, MemoryThatCouldNotBeLetGoIsLetGoByTheNextCommand) {
  MortalRig rig;
  rig.RunUntilPostCopy();
  rig.guest->FailDisarm(absl::InternalError("unregister failed"));
  ASSERT_TRUE(rig.RunToEnd());
  for (auto* result : {&rig.source_result, &rig.destination_result}) {
    EXPECT_TRUE(absl::IsInternal((*result)->status) || absl::IsAborted((*result)->status))
        << (*result)->status;
    EXPECT_NE(MessageOf((*result)->status).find("unregister failed"), std::string::npos);
    EXPECT_EQ((*result)->owner, VmOwner::kDestination);
    result->reset();
  }
  EXPECT_EQ(rig.destination_journal.records().back(), JournalPhase::kWhole);
  EXPECT_EQ(rig.source_journal.records().back(), JournalPhase::kCommitted);
  rig.KillBoth();
  rig.ResumeDestination(/*committed=*/true, /*whole=*/true);
  rig.ResumeSource();
  rig.ExpectEndedWell();
}

TEST(ResumeTest, TheDestinationDiesWhenItHasSaidThatAllIsThere) {
  MortalRig rig;
  bool said = false;
  rig.network.set_control_hook([&](const Message& message, bool) {
    if (!std::holds_alternative<Completed>(message) || std::exchange(said, true)) {
      return FakeFate::kDeliver;
    }
    return FakeFate::kDrop;
  });
  rig.RunUntilPostCopy();
  ASSERT_TRUE(rig.RunUntil([&] { return said; }));
  rig.KillDestination();
  rig.ResumeDestination(/*committed=*/true, /*whole=*/true);
  rig.ExpectEndedWell();
}

// A destination that has everything does not wait for ever to say so, and can say it later.
TEST(ResumeTest, TheSourceDoesNotComeToHearThatAllIsThere) {
  MortalRig rig;
  rig.RunUntilPostCopy();
  ASSERT_TRUE(rig.RunUntil([&] { return rig.guest->disarmed(); }));
  rig.KillBoth();
  rig.ResumeDestination(/*committed=*/true, /*whole=*/true);
  ASSERT_TRUE(rig.RunUntil([&] { return rig.destination_result.has_value(); }, 40'000'000));
  EXPECT_TRUE(rig.destination_result->status.ok()) << rig.destination_result->status;
  EXPECT_TRUE(rig.destination_observer.Noticed("'faultline receive --resume"));
  EXPECT_EQ(rig.destination_journal.records().back(), JournalPhase::kReleased);
  EXPECT_EQ(rig.again_destination_vmm->CountOf("Finish"), 1u);
}

// It is there to say it again only until it has heard Goodbye.
TEST(ResumeTest, TheSourceRecordsTheEndBeforeItSaysThatItKnows) {
  MigrationRig rig;
  bool checked = false;
  rig.network.set_control_hook([&](const Message& message, bool from_source) {
    if (std::holds_alternative<Goodbye>(message) && from_source) {
      checked = true;
      EXPECT_EQ(rig.source_journal.records().back(), JournalPhase::kCompleted);
    }
    return FakeFate::kDeliver;
  });
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectCompleted();
  EXPECT_TRUE(checked);
}

TEST(ResumeTest, MemoryThatNobodyArmed) {
  MortalRig rig;
  rig.RunUntilPostCopy();
  rig.KillDestination();
  rig.guest->Disarm().IgnoreError();
  rig.ResumeDestination(/*committed=*/true);
  ASSERT_TRUE(rig.RunUntil([&] { return rig.destination_result.has_value(); }));
  EXPECT_NE(MessageOf(rig.destination_result->status).find("not armed"), std::string::npos);
}

TEST(ResumeTest, MemoryThatCannotBeTakenOver) {
  MortalRig rig;
  rig.RunUntilPostCopy();
  rig.KillDestination();
  rig.arm_failure = absl::FailedPreconditionError("the hook is not armed");
  rig.ResumeDestination(true);
  ASSERT_TRUE(rig.RunUntil([&] { return rig.destination_result.has_value(); }));
  EXPECT_EQ(rig.destination_result->owner, VmOwner::kDestination);
  EXPECT_NE(MessageOf(rig.destination_result->status).find("not armed"), std::string::npos);
  EXPECT_EQ(rig.again_destination_vmm->CountOf("Discard"), 0u);
}

TEST(ResumeTest, ASourceWhoseMemoryIsGone) {
  MortalRig rig;
  rig.RunUntilPostCopy();
  rig.KillSource();
  rig.open_failure = absl::NotFoundError("the RAM file is gone");
  rig.ResumeSource();
  ASSERT_TRUE(rig.RunUntil([&] { return rig.source_result.has_value(); }));
  EXPECT_EQ(rig.source_result->owner, VmOwner::kDestination);
  EXPECT_NE(MessageOf(rig.source_result->status).find("is gone"), std::string::npos);
  EXPECT_EQ(rig.again_source_vmm->CountOf("Rollback"), 0u);
  EXPECT_FALSE(rig.vm.runs_on_source);
}

}  // namespace
}  // namespace faultline
