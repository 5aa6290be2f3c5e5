// Links that are cut or fall silent, lanes that break and people who cancel, at every message.

#include <gtest/gtest.h>

#include <functional>

#include "engine/migration_rig.h"

namespace faultline {
namespace {

bool IsPartOfTheStory(const Message& message) {
  return !std::holds_alternative<Heartbeat>(message) && !std::holds_alternative<Progress>(message);
}

// Calls `act` when the message number `at` is about to be sent; it says what becomes of it.
class Saboteur {
 public:
  using Act = std::function<FakeFate(const Message&)>;
  Saboteur(MigrationRig* rig, int at, Act act) {
    rig->network.set_control_hook([this, at, act](const Message& message, bool) {
      if (!IsPartOfTheStory(message)) return FakeFate::kDeliver;
      if (std::holds_alternative<Commit>(message)) commit_sent_ = true;
      if (seen_++ != at) return FakeFate::kDeliver;
      name_ = MessageName(message);
      return act(message);
    });
  }
  int seen() const { return seen_; }
  bool acted() const { return !name_.empty(); }
  const std::string& name() const { return name_; }
  bool commit_sent() const { return commit_sent_; }

 private:
  int seen_ = 0;
  std::string name_;
  bool commit_sent_ = false;
};

int CountMessages() {
  MigrationRig rig;
  Saboteur none(&rig, -1, nullptr);
  rig.Start();
  EXPECT_TRUE(rig.RunToEnd());
  return none.seen();
}

// After a failure: whoever the source says it is owns the VM, and the destination agrees or knows
// that it cannot tell.
void ExpectSettled(const MigrationRig& rig) {
  rig.ExpectOneOwner();
  ASSERT_TRUE(rig.source_result.has_value());
  if (rig.source_result->owner == VmOwner::kSource) {
    EXPECT_TRUE(rig.vm.runs_on_source);
    if (rig.vm.stopped_at_ns != 0) {
      EXPECT_LE(rig.vm.back_at_work_ns - rig.vm.stopped_at_ns, 2'000'000'000);
    }
  } else {
    EXPECT_FALSE(rig.vm.runs_on_source);
    EXPECT_EQ(rig.source_vmm.CountOf("Rollback"), 0u);
    EXPECT_EQ(rig.destination_vmm.CountOf("Discard"), 0u);
  }
}

TEST(LostPeerTest, TheLinkIsCutForAShortWhile) {
  const int messages = CountMessages();
  ASSERT_GE(messages, 15);
  for (FakeFate fate : {FakeFate::kCut, FakeFate::kCutAfter}) {
    for (int at = 0; at < messages; ++at) {
      MigrationRig rig;
      Saboteur saboteur(&rig, at, [&](const Message&) { return fate; });
      rig.Start();
      ASSERT_TRUE(rig.RunUntil([&] { return saboteur.acted(); })) << at;
      SCOPED_TRACE(saboteur.name() + (fate == FakeFate::kCut ? " lost" : " delivered"));
      rig.clock.AdvanceBy(700'000);
      rig.network.Mend();
      EXPECT_TRUE(rig.RunToEnd());
      ExpectSettled(rig);
      ASSERT_TRUE(rig.destination_result.has_value());
      // A new connection has told it.
      EXPECT_EQ(rig.destination_result->owner, rig.source_result->owner);
      bool handed_over = rig.source_result->owner == VmOwner::kDestination;
      EXPECT_EQ(handed_over, saboteur.commit_sent());
      if (handed_over) {
        rig.ExpectCompleted();
        rig.ExpectMemoryMoved();
      }
      EXPECT_EQ(rig.destination_vmm.discarded(), !handed_over);
      EXPECT_EQ(rig.destination_vmm.CountOf("TakeOver"), handed_over ? 1u : 0u);
    }
  }
}

TEST(LostPeerTest, TheLinkIsCutForGood) {
  const int messages = CountMessages();
  for (FakeFate fate : {FakeFate::kCut, FakeFate::kCutAfter}) {
    for (int at = 0; at < messages; ++at) {
      MigrationRig rig;
      rig.limits.recovery_timeout_us = 20'000'000;
      Saboteur saboteur(&rig, at, [&](const Message&) { return fate; });
      rig.Start();
      ASSERT_TRUE(rig.RunUntil([&] { return rig.source_result.has_value(); })) << at;
      SCOPED_TRACE(saboteur.name() + (fate == FakeFate::kCut ? " lost" : " delivered"));
      rig.clock.AdvanceBy(31'000'000);
      ExpectSettled(rig);
      if (rig.destination_result.has_value()) {
        EXPECT_EQ(rig.destination_result->owner, rig.source_result->owner);
        continue;
      }
      // It cannot know: it says so and waits, with the VM paused, until a person gives up.
      EXPECT_TRUE(rig.destination_observer.Noticed("only the source can say whose the VM is"));
      EXPECT_TRUE(rig.source_observer.Noticed("could not be told"));
      EXPECT_FALSE(rig.vm.runs_on_destination);
      rig.destination_threads.control.Post([&] { rig.destination->Cancel("Ctrl-C"); });
      ASSERT_TRUE(rig.RunToEnd());
      EXPECT_EQ(rig.destination_result->owner, VmOwner::kUndecided);
      EXPECT_FALSE(rig.destination_vmm.discarded());
      EXPECT_EQ(rig.destination_vmm.CountOf("TakeOver"), 0u);
    }
  }
}

TEST(LostPeerTest, TheLinkFallsSilent) {
  const int messages = CountMessages();
  for (int at = 0; at < messages; ++at) {
    MigrationRig rig;
    rig.limits.recovery_timeout_us = 20'000'000;
    Saboteur saboteur(&rig, at, [&](const Message&) {
      rig.network.Stall();
      return FakeFate::kDeliver;
    });
    rig.Start();
    ASSERT_TRUE(rig.RunUntil([&] { return saboteur.acted(); })) << at;
    SCOPED_TRACE(saboteur.name());
    rig.RunUntil([&] { return rig.source_result.has_value(); }, 40'000'000);
    ExpectSettled(rig);
    rig.clock.AdvanceBy(41'000'000);
    if (rig.destination_result.has_value()) continue;
    EXPECT_TRUE(rig.destination_observer.Noticed("only the source can say whose the VM is"));
    rig.destination_threads.control.Post([&] { rig.destination->Cancel("Ctrl-C"); });
    ASSERT_TRUE(rig.RunToEnd());
    EXPECT_EQ(rig.destination_result->owner, VmOwner::kUndecided);
  }
}

// A link that is silent for less than it takes to call the peer dead costs time and nothing else,
// and neither does a longer silence after Commit.
TEST(LostPeerTest, TheLinkHesitates) {
  const int messages = CountMessages();
  for (int at = 0; at < messages; ++at) {
    MigrationRig rig;
    bool committed = false;
    Saboteur saboteur(&rig, at, [&](const Message& message) {
      committed = std::holds_alternative<Commit>(message) || rig.vm.runs_on_destination;
      rig.network.Stall();
      return FakeFate::kDeliver;
    });
    rig.Start();
    ASSERT_TRUE(rig.RunUntil([&] { return saboteur.acted(); })) << at;
    SCOPED_TRACE(saboteur.name());
    rig.clock.AdvanceBy(committed ? 8'000'000 : 1'000'000);
    rig.network.Mend();
    ASSERT_TRUE(rig.RunToEnd());
    rig.ExpectCompleted();
    rig.ExpectMemoryMoved();
  }
}

TEST(LostPeerTest, ALaneBreaks) {
  const int messages = CountMessages();
  for (ConnectionRole role : {ConnectionRole::kDemand, ConnectionRole::kBulk}) {
    for (int at = 0; at < messages; ++at) {
      MigrationRig rig;
      Saboteur saboteur(&rig, at, [&](const Message&) {
        rig.network.Cut(role);
        return FakeFate::kDeliver;
      });
      rig.Start();
      ASSERT_TRUE(rig.RunToEnd()) << at;
      SCOPED_TRACE(saboteur.name());
      ExpectSettled(rig);
      EXPECT_EQ(rig.destination_result->owner, rig.source_result->owner);
      EXPECT_EQ(rig.destination_result->status.ok(), rig.source_result->status.ok())
          << rig.source_result->status << " | " << rig.destination_result->status;
      if (rig.source_result->owner == VmOwner::kSource) {
        EXPECT_TRUE(rig.destination_vmm.discarded());
      } else {
        rig.ExpectCompleted();
        rig.ExpectMemoryMoved();
      }
    }
  }
}

TEST(LostPeerTest, EitherSideIsCancelled) {
  const int messages = CountMessages();
  for (bool at_source : {true, false}) {
    for (int at = 0; at < messages; ++at) {
      MigrationRig rig;
      Saboteur saboteur(&rig, at, [&](const Message&) {
        if (at_source) {
          rig.source_threads.control.Post([&] { rig.source->Cancel("Ctrl-C"); });
        } else {
          rig.destination_threads.control.Post([&] { rig.destination->Cancel("Ctrl-C"); });
        }
        return FakeFate::kDeliver;
      });
      rig.Start();
      ASSERT_TRUE(rig.RunToEnd()) << at;
      SCOPED_TRACE(saboteur.name() + (at_source ? " at source" : " at destination"));
      if (rig.source_result->owner == VmOwner::kSource) {
        rig.ExpectRolledBack();
        EXPECT_NE(MessageOf(rig.source_result->status).find("Ctrl-C"), std::string::npos);
        EXPECT_NE(MessageOf(rig.destination_result->status).find("Ctrl-C"), std::string::npos);
      } else {
        rig.ExpectCompleted();
        rig.ExpectMemoryMoved();
      }
    }
  }
}

// Goodbye tells the source that it need not say it again: by then it must be recorded.
TEST(LostPeerTest, TheSourcesWordIsRecordedBeforeItIsAnswered) {
  MigrationRig rig;
  int answers = 0;
  rig.network.set_control_hook([&](const Message& message, bool from_source) {
    if (std::holds_alternative<Loaded>(message)) {
      rig.source_threads.control.Post([&] { rig.source->Cancel("Ctrl-C"); });
    }
    if (std::holds_alternative<Goodbye>(message) && !from_source) {
      ++answers;
      EXPECT_EQ(rig.destination_journal.records().back(), JournalPhase::kRolledBack);
    }
    return FakeFate::kDeliver;
  });
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectRolledBack();
  EXPECT_EQ(answers, 1);
}

TEST(LostPeerTest, CancelBeforeAnybodyCame) {
  MigrationRig rig;
  rig.StartDestination();
  rig.clock.AdvanceBy(20'000);
  rig.destination_threads.control.Post([&] { rig.destination->Cancel("Ctrl-C"); });
  ASSERT_TRUE(rig.RunUntil([&] { return rig.destination_result.has_value(); }));
  EXPECT_EQ(rig.destination_result->status.code(), absl::StatusCode::kCancelled);
}

TEST(LostPeerTest, CancelWhileTheVmmIsBusy) {
  for (const char* call : {"Prepare", "Freeze", "SaveDevices"}) {
    SCOPED_TRACE(call);
    MigrationRig rig;
    rig.source_vmm.Script(call, {.hangs = true});
    rig.Start();
    ASSERT_TRUE(rig.RunUntil([&] { return rig.source_vmm.CountOf(call) == 1; }));
    rig.source_threads.control.Post([&] { rig.source->Cancel("Ctrl-C"); });
    ASSERT_TRUE(rig.RunUntil([&] { return rig.source_result.has_value(); }));
    EXPECT_EQ(rig.source_result->status.code(), absl::StatusCode::kCancelled);
    rig.clock.AdvanceBy(1'000'000);
    rig.ExpectRolledBack();
  }
}

// A session that has ended leaves nothing behind that could call it.
TEST(LostPeerTest, NothingCallsASessionThatIsGone) {
  const int messages = CountMessages();
  for (int at = 0; at < messages; ++at) {
    MigrationRig rig;
    Saboteur saboteur(&rig, at, [&](const Message&) {
      rig.source_threads.control.Post([&] { rig.source->Cancel("Ctrl-C"); });
      return FakeFate::kCut;
    });
    rig.Start();
    rig.RunUntil([&] { return rig.source_result.has_value(); });
    rig.source.reset();
    rig.RunUntil([&] { return rig.destination_result.has_value(); }, 3'000'000);
    if (rig.destination_result.has_value()) rig.destination.reset();
    rig.network.Mend();
    // Somebody comes to a destination that has ended.
    auto late = rig.network.Connect(ConnectionRole::kControl);
    rig.clock.AdvanceBy(30'000'000);
  }
}

}  // namespace
}  // namespace faultline
