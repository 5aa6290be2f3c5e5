// Connections that are lost after the handover, and made again.

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <string>

#include "engine/back_off.h"
#include "engine/migration_rig.h"

namespace faultline {
namespace {

// Notes what had arrived at each new connection, and fails if any of it is sent again. A list that
// did not become a connection (the source had given it up by then) says nothing.
class ArrivedOnce {
 public:
  explicit ArrivedOnce(MigrationRig* rig) : rig_(rig) {
    rig->network.set_page_hook([this](PageRun run) {
      if (const uint64_t connected = Connections(); connected > connections_) {
        connections_ = connected;
        arrived_ = listed_;
      }
      for (uint64_t page = run.first; page < run.end(); ++page) {
        ++sent_;
        EXPECT_FALSE(arrived_.contains({run.region, page}))
            << "page " << page << " of region " << run.region << " had arrived";
      }
    });
    rig->network.set_control_hook([this](const Message& message, bool from_source) {
      if (std::holds_alternative<StillMissingEnd>(message)) Note();
      return hook_ ? hook_(message, from_source) : FakeFate::kDeliver;
    });
  }
  void set_hook(FakeNetwork::ControlHook hook) { hook_ = std::move(hook); }
  size_t arrived() const { return arrived_.size(); }
  size_t sent() const { return sent_; }

 private:
  uint64_t Connections() const {
    const std::vector<std::string>& notices = rig_->source_observer.notices();
    return static_cast<uint64_t>(std::ranges::count_if(
        notices, [](const std::string& notice) { return notice.starts_with("connected again"); }));
  }
  void Note() {
    PageTable& table = rig_->guest->table();
    for (RegionIndex region = 0; region < table.layout().size(); ++region) {
      for (uint64_t page = 0; page < table.layout()[region].page_count(); ++page) {
        if (table.Get({region, page}) != PageState::kMissing) listed_.insert({region, page});
      }
    }
  }

  MigrationRig* const rig_;
  FakeNetwork::ControlHook hook_;
  uint64_t connections_ = 0;
  std::set<PageId> listed_;   // when the list of what is missing was sent last
  std::set<PageId> arrived_;  // of the list that the connection began with
  size_t sent_ = 0;
};

bool Reconnects(const RecordingObserver& observer) {
  return !observer.phases().empty() && observer.phases().back() == Phase::kReconnecting;
}

// A migration whose 60 pages of data take a quarter of a second.
class RecoveryTest : public testing::Test {
 protected:
  struct Move {
    Move() : once(&rig) {
      rig.network.set_bandwidth_bytes_per_second(1'000'000);
      rig.network.set_push_window_bytes(16 * 1024);
    }
    void RunUntilPostCopy() {
      rig.Start();
      ASSERT_TRUE(rig.RunUntil([&] { return rig.vm.runs_on_destination; }));
    }
    // It ended well on both sides, after as many new connections as said.
    void ExpectRecovered(uint64_t reconnects) {
      ASSERT_TRUE(rig.RunToEnd(600'000'000));
      rig.ExpectCompleted();
      rig.ExpectMemoryMoved();
      EXPECT_EQ(rig.source_result->last.reconnects, reconnects);
      EXPECT_EQ(rig.destination_result->last.reconnects, reconnects);
      EXPECT_EQ(rig.destination_vmm.CountOf("TakeOver"), 1u);
    }
    MigrationRig rig;
    ArrivedOnce once;
  };
};

TEST_F(RecoveryTest, TheLinkIsCutAtAnyMoment) {
  size_t arrived_most = 0;
  for (int64_t after_us = 0; after_us < 260'000; after_us += 4000) {
    for (int64_t lasts_us : {0, 50'000, 2'000'000, 120'000'000}) {
      SCOPED_TRACE(testing::Message() << "after " << after_us << " us, for " << lasts_us << " us");
      Move move;
      move.RunUntilPostCopy();
      move.rig.clock.AdvanceBy(after_us);
      if (move.rig.guest->table().missing_pages() == 0) break;
      move.rig.network.Cut();
      move.rig.clock.AdvanceBy(lasts_us);
      move.rig.network.Mend();
      move.ExpectRecovered(1);
      arrived_most = std::max(arrived_most, move.once.arrived());
    }
  }
  EXPECT_GT(arrived_most, 60u);  // absent ones too
}

TEST_F(RecoveryTest, BothSidesSayIt) {
  Move move;
  move.RunUntilPostCopy();
  move.rig.clock.AdvanceBy(50'000);
  move.rig.network.Cut();
  move.rig.clock.AdvanceBy(3'000'000);
  for (auto* observer : {&move.rig.source_observer, &move.rig.destination_observer}) {
    EXPECT_EQ(observer->phases().back(), Phase::kReconnecting);
    EXPECT_EQ(observer->snapshots().back().phase, Phase::kReconnecting);
    EXPECT_TRUE(observer->Noticed("The VM runs"));
  }
  move.rig.network.Mend();
  move.ExpectRecovered(1);
  for (auto* observer : {&move.rig.source_observer, &move.rig.destination_observer}) {
    ASSERT_GE(observer->phases().size(), 3u);
    EXPECT_EQ(observer->phases()[observer->phases().size() - 2], Phase::kPostCopy);
    EXPECT_TRUE(observer->Noticed("connected again"));
  }
  // The same reason is not told at every try.
  EXPECT_LE(move.rig.source_observer.notices().size(), 3u);
}

TEST_F(RecoveryTest, AGuestThatWaitsGetsItsPage) {
  Move move;
  move.RunUntilPostCopy();
  move.rig.clock.AdvanceBy(50'000);
  move.rig.network.Cut();
  const PageId missing{1, 13};
  const PageId present{0, 0};
  ASSERT_EQ(move.rig.guest->table().Get(missing), PageState::kMissing);
  ASSERT_EQ(move.rig.guest->table().Get(present), PageState::kInstalled);
  int touched = 0;
  auto touch = [&](PageId page) {
    move.rig.guest->Touch(page, [&, page](const std::vector<std::byte>& bytes) {
      EXPECT_EQ(bytes[0], move.rig.source_byte(page));
      ++touched;
    });
  };
  touch(present);
  EXPECT_EQ(touched, 1);
  touch(missing);
  move.rig.clock.AdvanceBy(30'000'000);
  EXPECT_EQ(touched, 1);
  move.rig.network.Mend();
  ASSERT_TRUE(move.rig.RunUntil([&] { return touched == 2; }, 6'000'000));
  EXPECT_GT(move.rig.guest->table().missing_pages(), 0u);  // it did not wait for the push
  move.ExpectRecovered(1);
}

TEST_F(RecoveryTest, TheLinkIsCutAgainAndAgain) {
  Move move;
  move.RunUntilPostCopy();
  uint64_t cuts = 0;
  while (move.rig.guest->table().missing_pages() > 10) {
    ASSERT_LT(cuts, 100u);
    move.rig.clock.AdvanceBy(40'000);
    move.rig.network.Cut();
    ++cuts;
    move.rig.clock.AdvanceBy(20'000);
    move.rig.network.Mend();
    ASSERT_TRUE(move.rig.RunUntil(
        [&] { return move.rig.source_observer.phases().back() == Phase::kPostCopy; }));
  }
  EXPECT_GE(cuts, 4u);
  move.ExpectRecovered(cuts);
}

// Every message that a connection takes to be made again, lost or delivered before the next cut.
TEST_F(RecoveryTest, TheLinkIsCutWhileItIsMadeAgain) {
  bool cut_all = false;
  for (FakeFate fate : {FakeFate::kCut, FakeFate::kCutAfter}) {
    for (int at = 0; at < 20; ++at) {
      SCOPED_TRACE(at);
      Move move;
      move.RunUntilPostCopy();
      move.rig.clock.AdvanceBy(60'000);
      move.rig.network.Cut();
      move.rig.clock.AdvanceBy(1'000'000);
      int seen = 0;
      bool acted = false;
      move.once.set_hook([&](const Message& message, bool) {
        if (std::holds_alternative<Heartbeat>(message)) return FakeFate::kDeliver;
        if (seen++ != at) return FakeFate::kDeliver;
        acted = true;
        return fate;
      });
      move.rig.network.Mend();
      move.rig.RunUntil([&] { return acted || move.rig.source_result.has_value(); });
      if (!acted) {
        cut_all = true;
        break;
      }
      move.rig.clock.AdvanceBy(500'000);
      move.rig.network.Mend();
      ASSERT_TRUE(move.rig.RunToEnd());
      move.rig.ExpectCompleted();
      move.rig.ExpectMemoryMoved();
    }
  }
  EXPECT_TRUE(cut_all);
}

TEST_F(RecoveryTest, OneSideDoesNotHearOfTheLoss) {
  for (bool source_hears : {true, false}) {
    SCOPED_TRACE(source_hears);
    Move move;
    move.RunUntilPostCopy();
    move.rig.clock.AdvanceBy(60'000);
    move.rig.network.CutHalf(source_hears);
    const int64_t cut_at_ns = move.rig.clock.now_ns();
    ASSERT_TRUE(move.rig.RunUntil([&] {
      return move.rig.destination_observer.Noticed("connected again") &&
             move.rig.source_observer.Noticed("connected again");
    }));
    // Where the source dials at once, the destination's old connection is no hindrance.
    EXPECT_LT(move.rig.clock.now_ns() - cut_at_ns, source_hears ? 500'000'000 : 6'000'000'000);
    move.ExpectRecovered(1);
  }
}

TEST_F(RecoveryTest, OneLaneIsCut) {
  for (ConnectionRole role : {ConnectionRole::kDemand, ConnectionRole::kBulk}) {
    Move move;
    move.RunUntilPostCopy();
    move.rig.clock.AdvanceBy(60'000);
    move.rig.network.Cut(role);
    move.ExpectRecovered(1);
  }
}

TEST_F(RecoveryTest, CommitIsLost) {
  for (bool was_running : {true, false}) {
    RigOptions options;
    options.vm_running = was_running;
    MigrationRig rig(options);
    rig.network.set_control_hook([&](const Message& message, bool) {
      return std::holds_alternative<Commit>(message) ? FakeFate::kCut : FakeFate::kDeliver;
    });
    rig.Start();
    ASSERT_TRUE(rig.RunUntil([&] { return Reconnects(rig.source_observer); }));
    rig.clock.AdvanceBy(20'000'000);
    EXPECT_FALSE(rig.vm.runs_on_destination || rig.vm.runs_on_source);
    EXPECT_TRUE(rig.destination_observer.Noticed("only the source can say"));
    rig.network.set_control_hook(nullptr);
    rig.network.Mend();
    ASSERT_TRUE(rig.RunToEnd());
    rig.ExpectCompleted();  // runs, or stands paused as it was before
    rig.ExpectMemoryMoved();
    EXPECT_EQ(rig.destination_vmm.CountOf("TakeOver"), 1u);
  }
}

TEST_F(RecoveryTest, TheVmWaitsForAPageWhileItIsStarted) {
  Move move;
  move.rig.destination_vmm.Script("TakeOver", {.delay_us = 8'000'000});
  move.rig.destination_vmm.OnCall([&](const std::string& name) {
    if (name == "TakeOver") move.rig.network.Cut();
  });
  move.rig.Start();
  ASSERT_TRUE(move.rig.RunUntil([&] { return move.rig.destination_vmm.CountOf("TakeOver") == 1; }));
  move.rig.clock.AdvanceBy(100'000);
  bool touched = false;
  move.rig.guest->Touch({0, 50}, [&](const std::vector<std::byte>&) { touched = true; });
  move.rig.network.Mend();
  ASSERT_TRUE(move.rig.RunUntil([&] { return touched; }, 2'000'000));
  EXPECT_FALSE(move.rig.vm.runs_on_destination);
  move.ExpectRecovered(1);
}

TEST_F(RecoveryTest, TheAllocationMapIsCutShort) {
  for (bool before_it_is_read : {true, false}) {
    SCOPED_TRACE(before_it_is_read);
    Move move;
    bool cut = false;
    if (!before_it_is_read) {
      move.once.set_hook([&](const Message& message, bool) {
        if (!std::holds_alternative<AllocationMapEnd>(message) || std::exchange(cut, true)) {
          return FakeFate::kDeliver;
        }
        return FakeFate::kCut;
      });
    }
    move.rig.Start();
    if (before_it_is_read) {
      ASSERT_TRUE(move.rig.RunUntil([&] { return !move.rig.vm.runs_on_source; }));
      move.rig.source_threads.bulk.HoldUntil(move.rig.clock.now_ns() + 500'000'000);
      ASSERT_TRUE(move.rig.RunUntil([&] { return move.rig.vm.runs_on_destination; }));
      move.rig.clock.AdvanceBy(10'000);
      move.rig.network.Cut();
    } else {
      ASSERT_TRUE(move.rig.RunUntil([&] { return cut; }));
    }
    move.rig.clock.AdvanceBy(1'000'000);
    move.rig.network.Mend();
    move.ExpectRecovered(1);
    EXPECT_EQ(move.rig.destination_result->last.pages_absent, 20u);
  }
}

// The source learns that everything has arrived, also from a destination that is done by then.
TEST_F(RecoveryTest, TheLastWordsAreLost) {
  for (FakeFate fate : {FakeFate::kCut, FakeFate::kCutAfter}) {
    for (bool completed : {true, false}) {
      SCOPED_TRACE(completed);
      Move move;
      bool cut = false;
      move.once.set_hook([&](const Message& message, bool) {
        bool is_it = completed ? std::holds_alternative<Completed>(message)
                               : std::holds_alternative<Goodbye>(message);
        return is_it && !std::exchange(cut, true) ? fate : FakeFate::kDeliver;
      });
      move.rig.Start();
      ASSERT_TRUE(move.rig.RunUntil([&] { return cut; }));
      move.rig.clock.AdvanceBy(8'000'000);
      move.rig.network.Mend();
      ASSERT_TRUE(move.rig.RunToEnd());
      move.rig.ExpectCompleted();
      move.rig.ExpectMemoryMoved();
    }
  }
}

// A source that came back and was lost again is waited for as long as the first time.
TEST_F(RecoveryTest, TheLastWordsAreLostTwice) {
  for (bool comes_back : {true, false}) {
    Move move;
    int cuts = 0;
    move.once.set_hook([&](const Message& message, bool) {
      const bool cut = std::holds_alternative<Completed>(message) && cuts < 2;
      return cut && ++cuts > 0 ? FakeFate::kCut : FakeFate::kDeliver;
    });
    move.rig.Start();
    ASSERT_TRUE(move.rig.RunUntil([&] { return cuts == 1; }));
    move.rig.network.Mend();
    ASSERT_TRUE(move.rig.RunUntil([&] { return cuts == 2; }));
    move.rig.clock.AdvanceBy(20'000'000);
    ASSERT_FALSE(move.rig.destination_result.has_value());
    if (comes_back) move.rig.network.Mend();
    move.rig.clock.AdvanceBy(move.rig.limits.parting_timeout_us - 19'000'000);
    ASSERT_TRUE(move.rig.destination_result.has_value());
    EXPECT_TRUE(move.rig.destination_result->status.ok());
    EXPECT_EQ(move.rig.source_result.has_value(), comes_back);
    EXPECT_EQ(move.rig.destination_observer.Noticed("cannot be told"), !comes_back);
  }
}

TEST_F(RecoveryTest, TheTimeLimitEndsBothSides) {
  Move move;
  move.rig.limits.recovery_timeout_us = 30'000'000;
  move.RunUntilPostCopy();
  move.rig.clock.AdvanceBy(60'000);
  move.rig.network.Cut();
  const int64_t cut_at_ns = move.rig.clock.now_ns();
  ASSERT_TRUE(move.rig.RunToEnd());
  EXPECT_GE(move.rig.clock.now_ns() - cut_at_ns, 30'000'000'000);
  for (auto* result : {&*move.rig.source_result, &*move.rig.destination_result}) {
    EXPECT_EQ(result->status.code(), absl::StatusCode::kDeadlineExceeded);
    EXPECT_NE(MessageOf(result->status).find("within 30.0 s"), std::string::npos);
    EXPECT_EQ(result->owner, VmOwner::kDestination);
    EXPECT_GT(result->last.pages_missing, 0u);
  }
  EXPECT_FALSE(move.rig.guest->disarmed());
  EXPECT_EQ(move.rig.source_vmm.CountOf("Rollback"), 0u);
}

// Each loss has the whole time.
TEST_F(RecoveryTest, TheTimeLimitBeginsAnew) {
  Move move;
  move.rig.limits.recovery_timeout_us = 5'000'000;
  move.RunUntilPostCopy();
  for (int i = 0; i < 3; ++i) {
    move.rig.clock.AdvanceBy(30'000);
    move.rig.network.Cut();
    move.rig.clock.AdvanceBy(2'500'000);
    move.rig.network.Mend();
    ASSERT_TRUE(move.rig.RunUntil(
        [&] { return move.rig.destination_observer.phases().back() == Phase::kPostCopy; }));
  }
  move.ExpectRecovered(3);
}

TEST_F(RecoveryTest, OutOfMemoryWhenTheLinkIsCut) {
  Move move;
  move.rig.destination_vmm.OnCall([&](const std::string& name) {
    if (name == "TakeOver") move.rig.guest->FailInstalls(InstallOutcome::kNoSpace, 4, ENOSPC);
  });
  move.rig.Start();
  ASSERT_TRUE(move.rig.RunUntil([&] { return move.rig.destination_vmm.CountOf("Pause") == 1; }));
  move.rig.network.Cut();
  move.rig.clock.AdvanceBy(300'000);
  move.rig.network.Mend();
  move.ExpectRecovered(1);
  EXPECT_EQ(move.rig.destination_vmm.CountOf("Continue"),
            move.rig.destination_vmm.CountOf("Pause"));
}

TEST_F(RecoveryTest, GuestsThatGiveMemoryUpMeanwhile) {
  Move move;
  move.RunUntilPostCopy();
  move.rig.clock.AdvanceBy(40'000);
  move.rig.network.Cut();
  move.rig.clock.AdvanceBy(100'000);
  bool returned = false;
  move.rig.guest->DiscardByGuest({0, 40, 10}, [&] { returned = true; });
  move.rig.clock.AdvanceBy(100'000);
  EXPECT_TRUE(returned);
  move.rig.network.Mend();
  ASSERT_TRUE(move.rig.RunToEnd());
  move.rig.ExpectCompleted();
  for (uint64_t page = 40; page < 50; ++page) {
    EXPECT_EQ(move.rig.guest->BytesOf({0, page})[0], std::byte{0});
  }
}

// Faults, discards and cuts in any order, with the threads mixed by the seed.
TEST_F(RecoveryTest, RandomCuts) {
  uint64_t reconnects = 0;
  for (uint64_t seed = 1; seed <= 150; ++seed) {
    SCOPED_TRACE(seed);
    RigOptions options;
    options.seed = seed;
    MigrationRig rig(options);
    ArrivedOnce once(&rig);
    std::mt19937_64 random(seed);
    rig.network.set_bandwidth_bytes_per_second(500'000);
    rig.network.set_push_window_bytes(16 * 1024);
    rig.network.set_latency_us(static_cast<int64_t>(20 + random() % 3000));
    rig.Start();
    ASSERT_TRUE(rig.RunUntil([&] { return rig.vm.runs_on_destination; }));
    for (int round = 0; round < 8 && !rig.destination_result; ++round) {
      rig.guest->Touch({0, random() % 64});
      rig.clock.AdvanceBy(static_cast<int64_t>(random() % 150'000));
      switch (random() % 4) {
        case 0:
          rig.network.Cut();
          break;
        case 1:
          rig.network.CutHalf(random() % 2 == 0);
          break;
        case 2:
          rig.network.Cut(random() % 2 == 0 ? ConnectionRole::kDemand : ConnectionRole::kBulk);
          break;
        case 3:
          rig.network.Stall();
          break;
      }
      rig.clock.AdvanceBy(static_cast<int64_t>(random() % 7'000'000));
      rig.network.Mend();
    }
    ASSERT_TRUE(rig.RunToEnd(300'000'000));
    rig.ExpectCompleted();
    rig.ExpectMemoryMoved();
    reconnects += rig.source_result->last.reconnects;
  }
  EXPECT_GT(reconnects, 150u);
}

// --- Who may take a migration up again

class StrangerTest : public RecoveryTest, public ControlChannel::Listener {
 protected:
  void OnMessage(Message message) override { answers_.push_back(std::move(message)); }
  void OnChannelClosed(absl::Status) override { closed_ = true; }

  // A connection to the destination; it closes, or a second passes.
  void Call(Move* move, const Hello& hello) {
    answers_.clear();
    closed_ = false;
    move->rig.source_threads.control.Post([this, move, hello] {
      move->rig.source_transport.Connect(hello, 1'000'000, [this](auto channel) {
        ASSERT_TRUE(channel.ok());
        channel_ = std::move(channel).value();
        channel_->Start(this);
      });
    });
    move->rig.clock.AdvanceBy(20'000);
  }
  static Hello ResumeHello() {
    Hello hello;
    hello.role = ConnectionRole::kResume;
    hello.migration_id = {1, 2, 3};
    hello.token = {7, 7, 7};
    return hello;
  }
  void ExpectTurnedAway() {
    ASSERT_EQ(answers_.size(), 1u);
    ASSERT_TRUE(std::holds_alternative<PeerError>(answers_[0]));
    EXPECT_EQ(std::get<PeerError>(answers_[0]).code, PeerErrorCode::kToken);
    EXPECT_TRUE(closed_);
  }

  std::unique_ptr<ControlChannel> channel_;
  std::vector<Message> answers_;
  bool closed_ = false;
};

TEST_F(StrangerTest, NobodyResumesWithoutTheToken) {
  Move move;
  move.RunUntilPostCopy();
  for (ConnectionRole role : {ConnectionRole::kResume, ConnectionRole::kOutcome}) {
    Hello wrong_token = ResumeHello();
    wrong_token.role = role;
    wrong_token.token = {7, 7, 8};
    Call(&move, wrong_token);
    ExpectTurnedAway();
    Hello wrong_id = ResumeHello();
    wrong_id.role = role;
    wrong_id.migration_id = {9};
    Call(&move, wrong_id);
    ExpectTurnedAway();
  }
  move.ExpectRecovered(0);  // and it was not even disturbed
}

TEST_F(StrangerTest, NothingIsResumedBeforeTheHandover) {
  Move move;
  move.rig.StartDestination();
  move.rig.clock.AdvanceBy(10'000);
  Call(&move, ResumeHello());
  ExpectTurnedAway();
  move.rig.StartSource();
  move.ExpectRecovered(0);
}

// A connection that resumes means that the VM was handed over: no word on it can end the VM.
TEST_F(StrangerTest, AVmThatWasHandedOverIsNeverThrownAway) {
  Move move;
  move.once.set_hook([&](const Message& message, bool) {
    return std::holds_alternative<Commit>(message) ? FakeFate::kCut : FakeFate::kDeliver;
  });
  move.rig.Start();
  ASSERT_TRUE(move.rig.RunUntil([&] { return Reconnects(move.rig.source_observer); }));
  move.once.set_hook(nullptr);
  move.rig.network.Mend();
  Call(&move, ResumeHello());
  move.rig.source_threads.control.Post(
      [&] { channel_->Send(PeerError{.code = PeerErrorCode::kInternal, .text = "no"}); });
  move.rig.clock.AdvanceBy(10'000);
  EXPECT_FALSE(move.rig.destination_vmm.discarded());
  channel_.reset();
  ASSERT_TRUE(move.rig.RunToEnd());
  move.rig.ExpectCompleted();
  move.rig.ExpectMemoryMoved();
}

TEST_F(RecoveryTest, ListsOfMissingPagesThatCannotBe) {
  struct Case {
    Message message;
    const char* field;
  };
  const std::vector<Case> cases = {
      {StillMissing{.region = 2, .ranges = {{0, 1}}}, "StillMissing.region"},
      {StillMissing{.region = 0, .ranges = {{0, 65}}}, "StillMissing.ranges"},
      {StillMissingEnd{.missing_pages = 7}, "StillMissingEnd.missing_pages"},
      {StillMissing{.region = 1, .ranges = {{0, 2}}}, "StillMissing.ranges"},  // a second time
  };
  for (const Case& c : cases) {
    Move move;
    move.RunUntilPostCopy();
    move.rig.clock.AdvanceBy(30'000);
    move.rig.network.Cut();
    move.rig.network.Mend();
    move.rig.network.set_rewriter([&](const Message& message) -> std::optional<Message> {
      if (std::holds_alternative<StillMissingEnd>(message)) return c.message;
      return std::nullopt;
    });
    ASSERT_TRUE(move.rig.RunToEnd());
    EXPECT_NE(MessageOf(move.rig.source_result->status).find(c.field), std::string::npos)
        << move.rig.source_result->status;
    EXPECT_EQ(move.rig.source_result->owner, VmOwner::kDestination);
  }
}

TEST(BackOffTest, DoublesUpToItsLongest) {
  BackOff back_off(100, 500);
  std::vector<int64_t> pauses;
  for (int i = 0; i < 5; ++i) pauses.push_back(back_off.Next());
  EXPECT_EQ(pauses, (std::vector<int64_t>{100, 200, 400, 500, 500}));
  back_off.Reset();
  EXPECT_EQ(back_off.Next(), 100);
}

}  // namespace
}  // namespace faultline
