// Several rails, on the two devices that tests/rdma/init.sh makes. Runs where rdma_contract_test
// does.
#include <gtest/gtest.h>

#include <fstream>
#include <list>

#include "contract/bulk_lane_contract.h"
#include "contract/demand_lane_fixture.h"
#include "transport/rdma/broken_channels.h"
#include "transport/rdma/caller.h"
#include "transport/rdma/rdma_world.h"

namespace faultline::contract {
namespace {

// Both sides name the second device as a further rail, or one of them does.
class RailsWorld : public RdmaWorld {
 public:
  explicit RailsWorld(bool source = true, bool destination = true, RdmaBulk bulk = RdmaBulk::kRead)
      : RdmaWorld({.rails = Rails(destination), .tuning = {.bulk = bulk}}, Rails(source)) {}
  bool keeps_order() const override { return false; }

 private:
  static std::vector<TcpUri> Rails(bool other) {
    return other ? std::vector<TcpUri>{{OtherRdmaHost(), 0}} : std::vector<TcpUri>{};
  }
};

const auto kRailsWorlds = ::testing::Values([] { return std::make_unique<RailsWorld>(); });
const auto kWritingRailsWorlds =
    ::testing::Values([] { return std::make_unique<RailsWorld>(true, true, RdmaBulk::kWrite); });

INSTANTIATE_TEST_SUITE_P(Rails, BulkLaneContract, kRailsWorlds);
INSTANTIATE_TEST_SUITE_P(RailsWrites, BulkLaneContract, kWritingRailsWorlds);

// As the kernel counts them against this process's RLIMIT_MEMLOCK.
uint64_t PinnedBytes() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    uint64_t kib = 0;
    if (word == "VmPin:" && status >> kib) return kib * 1024;
  }
  return 0;
}

// Notes which of its views are registered.
struct ViewedMemory : TestMemory {
  absl::StatusOr<std::span<std::byte>> Map(RegionIndex region, size_t view) override {
    if (region == 0) views.push_back(view);
    return TestMemory::Map(region, view);
  }
  std::vector<size_t> views;  // of the source's control thread
};

class RdmaRailsTest : public BulkLaneFixture {
 protected:
  RailsWorld& world() { return static_cast<RailsWorld&>(*world_); }

  // Opens the lanes, which must not fail, pushes, and looks at what arrives.
  void Push(bool handed_over) {
    ExpectLanes();
    OpenSourceLanes(handed_over);
    ASSERT_TRUE(world_->WaitUntil([&] { return lanes_outcome() && source_lanes_outcome(); }));
    ASSERT_TRUE(source_lanes_outcome()->ok()) << *source_lanes_outcome();
    ASSERT_TRUE(lanes_outcome()->ok()) << *lanes_outcome();
    RunNotes& notes = all_notes_.emplace_back(&memory_);
    world_->RunOn(Place::kBulk, [&] { receiver_->Start(&notes); });
    std::vector<PageRun> runs;
    for (uint64_t i = 0; i < 320; ++i) runs.push_back({0, 1500 + (i * 64) % 2048, 64});
    MakePusher(runs);
    StartPusher();
    ASSERT_TRUE(world_->WaitUntil([&] { return notes.finished(); }));
    EXPECT_EQ(AsCompared(notes.runs()), AsCompared(runs));
    EXPECT_FALSE(notes.failure().has_value()) << *notes.failure();
  }

  void OpenSourceLanes(bool handed_over) {
    LaneTerms terms = TermsWith(kToken);
    terms.memory = &viewed_;
    terms.handed_over = handed_over;
    world_->RunOn(Place::kSourceControl, [&] {
      world_->source().OpenLanes(terms, kTimeoutUs, [this](auto lanes) {
        std::lock_guard lock(lanes_mutex_);
        source_lanes_outcome_ = lanes.status();
        if (!lanes.ok()) return;
        exporter_ = lanes->exporter;
        push_ = lanes->push;
      });
    });
  }

  // As a rail's device dies for both sides, which are in this process.
  void LoseTheSecondDevice() {
    SharedDevice device(OtherRdmaHost());
    {
      const BrokenDescriptor broken(device.events_fd());
      const SecondAddress second("dummy1", "10.9.1.77");
      EXPECT_TRUE(
          world_->WaitUntil([&] { return all_notes_.back().failure() && pusher_->failure(); }));
      world_->Settle();  // one side may have heard of it by the other
    }
    StopLanes();
    device.ForgetEvents();
  }

  ViewedMemory viewed_;
  std::list<RunNotes> all_notes_;  // of one Push after the other

  std::string OnlyNotice() {
    const auto notices = world().notices();
    EXPECT_EQ(notices.size(), 1u);
    return notices.empty() ? "" : notices.front();
  }
};

class RdmaRailsMissingTest : public RdmaRailsTest {};
class RdmaRailsUnusedTest : public RdmaRailsTest {};

INSTANTIATE_TEST_SUITE_P(Rails, RdmaRailsTest, kRailsWorlds);
INSTANTIATE_TEST_SUITE_P(RailsWrites, RdmaRailsTest, kWritingRailsWorlds);
// On its second rail nobody listens.
INSTANTIATE_TEST_SUITE_P(Rails, RdmaRailsMissingTest, ::testing::Values([] {
                           return std::make_unique<RailsWorld>(true, false);
                         }));
INSTANTIATE_TEST_SUITE_P(Rails, RdmaRailsUnusedTest, ::testing::Values([] {
                           return std::make_unique<RailsWorld>(false, true);
                         }));

TEST_P(RdmaRailsTest, EveryRailCarriesItsShare) {
  Push(/*handed_over=*/false);
  const std::vector<RailFigures> rails = world().destination().rails();
  ASSERT_EQ(rails.size(), 2u);
  EXPECT_EQ(rails[0].bytes + rails[1].bytes, 320 * kRdmaRunBytesMax);
  for (const RailFigures& rail : rails) {
    EXPECT_GT(rail.bytes, 320 * kRdmaRunBytesMax / 4) << rail.address;
    const bool written = world().bulk() == RdmaBulk::kWrite;
    EXPECT_EQ(rail.bytes_written, written ? rail.bytes : 0u) << rail.address;
  }
  const std::string port = std::to_string(world().port());
  EXPECT_EQ(world().destination().address(),
            "rdma://" + RdmaHost() + ":" + port + ",rdma://" + OtherRdmaHost() + ":" + port);
  EXPECT_TRUE(world().notices().empty());
}

// MEMLOCK is to be as much: a device pins for itself what another has pinned.
TEST_P(RdmaRailsTest, TheKernelCountsAPageForEachDeviceThatPinsIt) {
  uint64_t data_bytes = 0;
  const AllocationMap map = memory_.ReadAllocationMap().value();
  for (RegionIndex region = 0; region < map.size(); ++region) {
    data_bytes += map[region].page_count() * TestLayout()[region].page_size_bytes;
  }
  const uint64_t before = PinnedBytes();
  ExpectLanes();
  OpenSourceLanes(/*handed_over=*/false);
  ASSERT_TRUE(world_->WaitUntil([&] { return source_lanes_outcome().has_value(); }));
  EXPECT_GE(PinnedBytes() - before, 2 * data_bytes);
}

TEST_P(RdmaRailsMissingTest, BeforeTheHandoverItIsAnErrorThatNamesIt) {
  ExpectLanes();
  OpenSourceLanes(/*handed_over=*/false);
  ASSERT_TRUE(world_->WaitUntil([&] { return source_lanes_outcome().has_value(); }));
  const absl::Status outcome = *source_lanes_outcome();
  EXPECT_TRUE(absl::IsFailedPrecondition(outcome)) << outcome;
  for (const std::string& word :
       {std::string("--to names 2 rails and the destination listens on 1"), OtherRdmaHost()}) {
    EXPECT_NE(MessageOf(outcome).find(word), std::string::npos) << outcome;
  }
}

TEST_P(RdmaRailsMissingTest, AfterTheHandoverTheLanesGoOnWithTheRailThatIsLeft) {
  Push(/*handed_over=*/true);
  EXPECT_EQ(world().destination().rails()[0].bytes, 320 * kRdmaRunBytesMax);
  const std::string notice = OnlyNotice();
  for (const std::string& word : {OtherRdmaHost(), std::string("the other rails, 1 of 2")}) {
    EXPECT_NE(notice.find(word), std::string::npos) << notice;
  }
}

TEST_P(RdmaRailsUnusedTest, ASourceThatNamesFewerUsesThoseAndSaysSo) {
  Push(/*handed_over=*/false);
  const std::vector<RailFigures> rails = world().destination().rails();
  ASSERT_EQ(rails.size(), 2u);
  EXPECT_EQ(rails[0].bytes, 320 * kRdmaRunBytesMax);
  EXPECT_EQ(rails[1].bytes, 0u);
  EXPECT_NE(OnlyNotice().find("listens on 2 rails and --to names 1"), std::string::npos);
}

// A device, its registration and its listening are a rail's own.
TEST_P(RdmaRailsTest, ADeviceThatDiedIsOpenedAnewAndTheOtherRailKeepsItsRegistration) {
  Push(/*handed_over=*/false);
  EXPECT_EQ(viewed_.views, (std::vector<size_t>{0, 1}));
  LoseTheSecondDevice();
  const uint64_t before = world().destination().rails()[1].bytes;
  Push(/*handed_over=*/true);
  EXPECT_EQ(viewed_.views, (std::vector<size_t>{0, 1, 1}));
  EXPECT_GT(world().destination().rails()[1].bytes, before);
  EXPECT_TRUE(world().notices().empty());
}

TEST_P(RdmaRailsTest, ARailWhoseListeningHasDiedListensAnew) {
  const std::vector<int> descriptors = ConnectionManagers();
  ASSERT_EQ(descriptors.size(), 2u) << "the source has made its own already";
  HeldPoller callers;
  const auto events = RdmaEvents::Make(&callers, [](const absl::Status&) {}).value();
  std::optional<Caller> caller;
  {
    const BrokenDescriptor broken(descriptors[1]);
    caller.emplace(
        events.get(),
        ResolveTcp({OtherRdmaHost(), world().port()}, /*numeric_only=*/true).value().front(),
        RdmaGreeting{});
    ASSERT_TRUE(world_->WaitUntil([&] {
      callers.Run();
      return !world().notices().empty();
    }));
  }
  Push(/*handed_over=*/false);
  EXPECT_GT(world().destination().rails()[1].bytes, 0u);
  EXPECT_EQ(world().notices().size(), 1u) << "that its events could not be read";
}

// Of lanes that break again and again each rail is tried alone, then none.
TEST_P(RdmaRailsTest, LanesThatBreakSoonAreTriedOnOneRailAfterTheOther) {
  Push(/*handed_over=*/false);
  std::vector<std::vector<uint64_t>> given;
  for (int i = 0; i < 4; ++i) {
    StopLanes();
    const std::vector<RailFigures> before = world().destination().rails();
    Push(/*handed_over=*/true);
    const std::vector<RailFigures> after = world().destination().rails();
    given.push_back({after[0].bytes - before[0].bytes, after[1].bytes - before[1].bytes});
  }
  constexpr uint64_t kAll = 320 * kRdmaRunBytesMax;
  EXPECT_EQ(given[0][0] + given[0][1], kAll);
  EXPECT_GT(given[0][1], 0u) << "once is no habit";
  EXPECT_EQ(given[1], (std::vector<uint64_t>{kAll, 0}));
  EXPECT_EQ(given[2], (std::vector<uint64_t>{0, kAll}));
  EXPECT_EQ(given[3], (std::vector<uint64_t>{0, 0}));
  EXPECT_NE(OnlyNotice().find("goes over TCP"), std::string::npos);
}

}  // namespace
}  // namespace faultline::contract
