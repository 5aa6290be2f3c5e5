// Pages that are checked end to end: what changes on its way is never put in, and comes again.

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <string>

#include "engine/migration_rig.h"
#include "engine/mismatch.h"
#include "protocol/codec.h"

namespace faultline {
namespace {

constexpr size_t kPageBytes = 4096;

bool IsPage(const FakeNetwork::Bytes& bytes) { return bytes.size() > kPageBytes; }

bool Brings(const FakeNetwork::Bytes& bytes, PageId page) {
  if (!IsPage(bytes)) return false;
  const MemoryLayout layout = RigOptions{}.layout;
  auto frame = DecodePageFrame(std::span(bytes).first<kPageFrameBytes>(), layout, kFakeRunBytesMax);
  return frame.ok() && frame->run.Contains(page);
}

class IntegrityTest : public testing::Test {
 protected:
  struct Move {
    explicit Move(const RigOptions& options = {}) : rig(options) {
      rig.network.set_bandwidth_bytes_per_second(1'000'000);
      rig.network.set_push_window_bytes(16 * 1024);
      rig.network.set_changer([this](ConnectionRole role, int to, FakeNetwork::Bytes* bytes) {
        const bool wanted = wanted_page.has_value() ? Brings(*bytes, *wanted_page)
                                                    : role == wanted_role && IsPage(*bytes);
        if (to == 1 && wanted && rig.vm.runs_on_destination && changes_left > 0) {
          --changes_left;
          (*bytes)[kPageFrameBytes + 100] ^= std::byte{8};
        }
      });
    }
    void ExpectRecovered(uint64_t mismatches) {
      ASSERT_TRUE(rig.RunToEnd(600'000'000));
      rig.ExpectCompleted();
      rig.ExpectMemoryMoved();
      for (const SessionResult* result : {&*rig.source_result, &*rig.destination_result}) {
        EXPECT_TRUE(result->integrity);
        EXPECT_EQ(result->last.mismatches, mismatches);
        EXPECT_EQ(result->last.reconnects, mismatches);
      }
    }
    bool Noticed(const RecordingObserver& observer, const std::string& part) const {
      return std::ranges::any_of(observer.notices(), [&](const std::string& notice) {
        return notice.find(part) != std::string::npos;
      });
    }
    MigrationRig rig;
    ConnectionRole wanted_role = ConnectionRole::kBulk;
    std::optional<PageId> wanted_page;  // on whatever lane it comes
    int changes_left = 0;
  };
};

TEST_F(IntegrityTest, ARunThatChangesOnItsWayComesAgain) {
  Move move;
  move.changes_left = 1;
  move.rig.Start();
  move.ExpectRecovered(1);
  for (const RecordingObserver* observer :
       {&move.rig.source_observer, &move.rig.destination_observer}) {
    EXPECT_TRUE(move.Noticed(*observer, "of region 'ram0' (offset "));
    EXPECT_TRUE(move.Noticed(*observer, "EDAC"));
  }
}

TEST_F(IntegrityTest, TheReasonIsSaidAlsoWhereTheSourceBreaksOffFirst) {
  Move move;
  move.changes_left = 1;
  move.rig.limits.lane_failure_grace_us = 2'000'000;
  move.rig.StartDestination();
  move.rig.clock.AdvanceBy(10'000);
  move.rig.limits.lane_failure_grace_us = 20'000;
  move.rig.StartSource();
  move.ExpectRecovered(1);
  EXPECT_TRUE(move.Noticed(move.rig.destination_observer, "of region 'ram0' (offset "));
}

TEST_F(IntegrityTest, AnAnswerThatChangesOnItsWayComesAgain) {
  Move move;
  move.wanted_role = ConnectionRole::kDemand;
  move.changes_left = 1;
  move.rig.Start();
  ASSERT_TRUE(move.rig.RunUntil([&] { return move.rig.vm.runs_on_destination; }));
  std::optional<std::byte> seen;
  const PageId page{0, 60};
  move.rig.guest->Touch(page, [&](const std::vector<std::byte>& bytes) { seen = bytes[100]; });
  move.ExpectRecovered(1);
  EXPECT_EQ(seen, move.rig.source_byte(page));
}

// The pause grows though other pages get through, and with it the time that a guest's page takes;
// once it gets through the migration ends.
TEST_F(IntegrityTest, APageThatChangesEachTimeIsAskedForMoreAndMoreSeldom) {
  Move move;
  move.wanted_page = PageId{0, 60};
  move.changes_left = 1'000'000;
  move.rig.Start();
  ASSERT_TRUE(move.rig.RunUntil([&] { return move.rig.vm.runs_on_destination; }));
  move.rig.guest->Touch({0, 60}, [](const std::vector<std::byte>&) {});
  move.rig.clock.AdvanceBy(60'000'000);
  const int tries = 1'000'000 - move.changes_left;
  EXPECT_GT(tries, 5);
  EXPECT_LT(tries, 50);  // two a connection: it is pushed, too
  EXPECT_TRUE(move.Noticed(move.rig.destination_observer, "time in a row"));
  move.changes_left = 0;
  ASSERT_TRUE(move.rig.RunToEnd(600'000'000));
  move.rig.ExpectCompleted();
  move.rig.ExpectMemoryMoved();
  EXPECT_LT(move.rig.source_result->last.reconnects, 25u);  // once every 5 s at last
}

// Its answer would be another page's, which is dropped, and the one who waits would wait for good.
TEST_F(IntegrityTest, ARequestThatChangesOnItsWayIsNotAnsweredAndComesAgain) {
  Move move;
  int changes_left = 1;
  move.rig.network.set_changer([&](ConnectionRole role, int to, FakeNetwork::Bytes* bytes) {
    if (to != 0 || role != ConnectionRole::kDemand || bytes->size() % kPageRequestBytes != 0)
      return;
    if (!move.rig.vm.runs_on_destination || changes_left == 0) return;
    --changes_left;
    (*bytes)[8] ^= std::byte{1};
  });
  move.rig.Start();
  ASSERT_TRUE(move.rig.RunUntil([&] { return move.rig.vm.runs_on_destination; }));
  std::optional<std::byte> seen;
  const PageId page{0, 60};
  move.rig.guest->Touch(page, [&](const std::vector<std::byte>& bytes) { seen = bytes[100]; });
  ASSERT_TRUE(move.rig.RunToEnd(600'000'000));
  EXPECT_EQ(changes_left, 0);
  move.rig.ExpectCompleted();
  move.rig.ExpectMemoryMoved();
  EXPECT_EQ(seen, move.rig.source_byte(page));
  EXPECT_EQ(move.rig.source_result->last.reconnects, 1u);
  EXPECT_TRUE(move.Noticed(move.rig.source_observer, "a page request changed on its way"));
}

TEST_F(IntegrityTest, DeviceStateThatChangesOnItsWayIsThrownAway) {
  Move move;
  move.rig.network.set_rewriter([](const Message& message) -> std::optional<Message> {
    auto* state = std::get_if<DeviceState>(&message);
    if (state == nullptr) return std::nullopt;
    DeviceState changed = *state;
    changed.bytes[7] ^= std::byte{4};
    return changed;
  });
  move.rig.Start();
  ASSERT_TRUE(move.rig.RunToEnd());
  move.rig.ExpectRolledBack();
  EXPECT_NE(MessageOf(move.rig.source_result->status).find("device state changed on its way"),
            std::string::npos)
      << move.rig.source_result->status;
}

TEST_F(IntegrityTest, BeforeTheHandoverTheVmStaysWhereItWas) {
  Move move;
  std::optional<std::byte> seen;
  move.rig.network.set_changer([](ConnectionRole role, int to, FakeNetwork::Bytes* bytes) {
    if (to == 1 && role == ConnectionRole::kDemand && IsPage(*bytes)) (*bytes)[50] ^= std::byte{1};
  });
  move.rig.destination_vmm.set_load_hook([&](std::function<void()> go_on) {
    move.rig.guest->Touch({0, 9}, [&, go_on](const std::vector<std::byte>& bytes) {
      seen = bytes[26];
      go_on();
    });
  });
  move.rig.Start();
  ASSERT_TRUE(move.rig.RunToEnd());
  move.rig.ExpectRolledBack();
  EXPECT_NE(MessageOf(move.rig.source_result->status).find("page 9 of region 'ram0'"),
            std::string::npos)
      << move.rig.source_result->status;
}

TEST_F(IntegrityTest, WithoutItNobodyWouldKnow) {
  Move move({.source_integrity = IntegrityWish::kOff});
  move.changes_left = 1;
  move.rig.Start();
  ASSERT_TRUE(move.rig.RunToEnd());
  move.rig.ExpectCompleted();
  EXPECT_FALSE(move.rig.destination_result->integrity);
  EXPECT_EQ(move.rig.destination_result->last.mismatches, 0u);
  EXPECT_EQ(move.changes_left, 0);
}

TEST_F(IntegrityTest, EitherSideMayAskForIt) {
  for (const RigOptions& options : {RigOptions{.source_integrity = IntegrityWish::kOn,
                                   .destination_integrity = IntegrityWish::kOff},
                                    RigOptions{.source_integrity = IntegrityWish::kOff,
                                    .destination_integrity = IntegrityWish::kOn}}) {
    Move move(options);
    move.changes_left = 1;
    move.rig.Start();
    move.ExpectRecovered(1);
    EXPECT_TRUE(move.rig.source_journal.kept()->integrity);
    EXPECT_TRUE(move.rig.destination_journal.kept()->integrity);
  }
}

TEST_F(IntegrityTest, ASourceOfAnOlderReleaseIsTurnedAwayWhereItIsAskedFor) {
  Move move(
      {.source_integrity = IntegrityWish::kCannot, .destination_integrity = IntegrityWish::kOn});
  move.rig.Start();
  ASSERT_TRUE(move.rig.RunUntil([&] { return move.rig.source_result.has_value(); }));
  EXPECT_EQ(move.rig.source_result->owner, VmOwner::kSource);
  EXPECT_NE(MessageOf(move.rig.source_result->status).find("which the source cannot"),
            std::string::npos)
      << move.rig.source_result->status;
  EXPECT_TRUE(move.Noticed(move.rig.destination_observer, "turned the source at"));
  EXPECT_FALSE(move.rig.destination_result.has_value());  // it waits for another one
}

TEST_F(IntegrityTest, ADestinationOfAnOlderReleaseIsRefusedWhereItIsAskedFor) {
  Move move({.source_integrity = IntegrityWish::kOn});
  move.rig.network.set_rewriter([](const Message& message) -> std::optional<Message> {
    if (const auto* welcome = std::get_if<Welcome>(&message)) {
      Welcome old = *welcome;
      old.integrity = false;
      return old;
    }
    return std::nullopt;
  });
  move.rig.Start();
  ASSERT_TRUE(move.rig.RunToEnd());
  move.rig.ExpectOneOwner();
  EXPECT_EQ(move.rig.source_result->owner, VmOwner::kSource);
  EXPECT_NE(MessageOf(move.rig.source_result->status).find("which the destination cannot"),
            std::string::npos)
      << move.rig.source_result->status;
}

// A range of the allocation map that changes would turn pages into zeros.
TEST_F(IntegrityTest, AMapThatChangesOnItsWayComesAgain) {
  Move move;
  int changes = 0;
  move.rig.network.set_rewriter([&](const Message& message) -> std::optional<Message> {
    const auto* ranges = std::get_if<AllocatedRanges>(&message);
    if (ranges == nullptr || ranges->ranges.size() < 2 || changes++ > 0) return std::nullopt;
    AllocatedRanges changed = *ranges;
    ++changed.ranges[0].end;  // as many pages as before, but others
    ++changed.ranges[1].first;
    return changed;
  });
  move.rig.Start();
  ASSERT_TRUE(move.rig.RunToEnd(600'000'000));
  move.rig.ExpectCompleted();
  move.rig.ExpectMemoryMoved();
  EXPECT_GE(changes, 1);
  EXPECT_EQ(move.rig.destination_result->last.mismatches, 1u);
}

TEST(MismatchNotesTest, SaysWhereAndHowOften) {
  const MemoryLayout layout = {{"ram", 1 << 20, 4096}, {"huge", 4 << 20, 2 << 20}};
  MismatchNotes notes;
  std::string text = MessageOf(notes.Note(layout, {0, 3, 1}));
  EXPECT_NE(text.find("page 3 of region 'ram' (offset 12288, 4096 bytes)"), std::string::npos)
      << text;
  EXPECT_EQ(text.find("in a row"), std::string::npos) << text;
  EXPECT_FALSE(notes.repeats());
  text = MessageOf(notes.Note(layout, {0, 3, 1}));
  EXPECT_NE(text.find("for the 2. time in a row"), std::string::npos) << text;
  EXPECT_TRUE(notes.repeats());
  text = MessageOf(notes.Note(layout, {1, 0, 2}));
  EXPECT_NE(text.find("pages 0 to 1 of region 'huge'"), std::string::npos) << text;
  EXPECT_FALSE(notes.repeats());
  EXPECT_EQ(notes.count(), 3u);
}

}  // namespace
}  // namespace faultline
