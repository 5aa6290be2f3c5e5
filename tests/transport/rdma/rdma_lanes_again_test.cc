// Lanes that are opened again: what they keep, and when they do without RDMA. Runs where
// rdma_contract_test does.
#include <gtest/gtest.h>

#include "contract/bulk_lane_fixture.h"
#include "contract/demand_lane_fixture.h"
#include "transport/rdma/broken_channels.h"
#include "transport/rdma/rdma_world.h"

namespace faultline::contract {
namespace {

struct CountedMemory : TestMemory {
  absl::StatusOr<AllocationMap> ReadAllocationMap() override {
    ++registrations;
    return TestMap();
  }
  std::atomic<int> registrations = 0;
};

class RdmaLanesAgainTest : public TransportContract {
 protected:
  // Waits for both sides.
  void Open(bool handed_over) {
    Begin(handed_over);
    ASSERT_TRUE(world_->WaitUntil([&] { return lanes_outcome() && source_lanes_outcome(); }));
    ASSERT_TRUE(lanes_outcome()->ok()) << *lanes_outcome();
    ASSERT_TRUE(source_lanes_outcome()->ok()) << *source_lanes_outcome();
  }

  void Begin(bool handed_over) {
    StopLanes();
    ExpectLanes();
    LaneTerms terms = TermsWith(kToken);
    terms.memory = &counted_;
    terms.handed_over = handed_over;
    world_->RunOn(Place::kSourceControl, [&] {
      {
        // Those that were being opened may have come since StopLanes; nobody has started them.
        std::lock_guard lock(lanes_mutex_);
        exporter_ = nullptr;
        push_ = nullptr;
        source_lanes_outcome_.reset();
      }
      world_->source().OpenLanes(terms, kTimeoutUs, [this](auto lanes) {
        std::lock_guard lock(lanes_mutex_);
        source_lanes_outcome_ = lanes.status();
        if (!lanes.ok()) return;
        exporter_ = lanes->exporter;
        push_ = lanes->push;
      });
    });
  }

  // Whether the source is asked for a page that can be read.
  bool SourceIsAsked() {
    if (exporter_ == nullptr || reader_ == nullptr) return false;  // which has failed the test
    ReaderNotes pages(&memory_, &map_);
    ExporterNotes demands;
    world_->RunOn(Place::kDemand, [&] { reader_->Start(&pages); });
    world_->RunOn(Place::kSourceDemand, [&] { exporter_->Start(&memory_, &demands); });
    world_->Settle();  // the destination knows what is readable
    world_->RunOn(Place::kDemand, [&] { reader_->Read(std::vector<PageId>{{0, 7}}); });
    EXPECT_TRUE(world_->WaitUntil([&] { return pages.page_count() == 1; }));
    StopLanes();
    return demands.demand_count() > 0;
  }

  CountedMemory counted_;
};

class RdmaLanesNeverWithoutTest : public RdmaLanesAgainTest {};
class RdmaBesideTest : public RdmaLanesAgainTest {};

INSTANTIATE_TEST_SUITE_P(Rdma, RdmaLanesAgainTest,
                         ::testing::Values([] { return std::make_unique<RdmaWorld>(); }));
INSTANTIATE_TEST_SUITE_P(Rdma, RdmaLanesNeverWithoutTest, ::testing::Values([] {
                           return std::make_unique<RdmaWorld>(
                               RdmaOptions{.tuning = {.fall_back = false}});
                         }));

INSTANTIATE_TEST_SUITE_P(
    Rdma, RdmaBesideTest, ::testing::Values([] {
      return std::make_unique<RdmaWorld>(RdmaOptions{.uri = TcpUri{RdmaHost(), 0}});
    }));

TEST_P(RdmaBesideTest, PagesAreReadAtAnotherAddressThanTheConnections) {
  Open(/*handed_over=*/false);
  EXPECT_FALSE(SourceIsAsked());
  const uint16_t port = static_cast<RdmaWorld&>(*world_).port();
  EXPECT_EQ(world_->destination().address(), "rdma://" + RdmaHost() + ":" + std::to_string(port));
}

TEST_P(RdmaLanesAgainTest, MemoryIsRegisteredOnceAlsoIfLanesAreLostWhileTheyAreDialled) {
  Open(/*handed_over=*/false);
  EXPECT_EQ(counted_.registrations, 1);
  for (int i = 0; i < 3; ++i) {
    Begin(/*handed_over=*/true);
    // The source knows that its connections have joined at about this time, and dials.
    ASSERT_TRUE(world_->WaitUntil([&] { return lanes_outcome().has_value(); }));
  }
  // Those that were connected before they were lost count as lanes that broke soon: these may go
  // without RDMA, and then the next do not.
  Open(/*handed_over=*/true);
  if (SourceIsAsked()) {
    Open(/*handed_over=*/true);
    EXPECT_FALSE(SourceIsAsked());
  }
  EXPECT_EQ(counted_.registrations, 1);
}

TEST_P(RdmaLanesAgainTest, MemoryIsRegisteredAnewOnceItsDeviceIsGone) {
  Open(/*handed_over=*/false);
  SharedDevice device(RdmaHost());
  ReaderNotes pages(&memory_, &map_);
  ExporterNotes demands;
  world_->RunOn(Place::kDemand, [&] { reader_->Start(&pages); });
  world_->RunOn(Place::kSourceDemand, [&] { exporter_->Start(&memory_, &demands); });
  {
    const BrokenDescriptor broken(device.events_fd());  // both sides'
    const SecondAddress second;                         // of which the device tells
    EXPECT_TRUE(world_->WaitUntil([&] { return pages.failure() && demands.failure(); }));
    world_->Settle();  // one side may have heard of it by the other
  }
  StopLanes();
  device.ForgetEvents();
  Open(/*handed_over=*/true);
  EXPECT_FALSE(SourceIsAsked());
  EXPECT_EQ(counted_.registrations, 2);
}

TEST_P(RdmaLanesAgainTest, LanesThatBreakSoonTwiceGoWithoutRdmaAndTheNextTryItAgain) {
  Open(/*handed_over=*/false);
  EXPECT_FALSE(SourceIsAsked());
  Open(/*handed_over=*/true);
  EXPECT_FALSE(SourceIsAsked()) << "once is no habit";
  Open(/*handed_over=*/true);
  EXPECT_TRUE(SourceIsAsked());
  const auto notices = static_cast<RdmaWorld&>(*world_).notices();
  ASSERT_EQ(notices.size(), 1u);
  EXPECT_NE(notices[0].find("goes over TCP"), std::string::npos) << notices[0];
  Open(/*handed_over=*/true);
  EXPECT_FALSE(SourceIsAsked());
  EXPECT_EQ(counted_.registrations, 1);
}

TEST_P(RdmaLanesAgainTest, BeforeTheHandoverNothingGoesWithoutRdma) {
  for (int i = 0; i < 4; ++i) {
    Open(/*handed_over=*/false);
    EXPECT_FALSE(SourceIsAsked()) << i;
  }
}

TEST_P(RdmaLanesNeverWithoutTest, AfterTheHandoverNothingGoesWithoutRdmaEither) {
  for (int i = 0; i < 4; ++i) {
    Open(/*handed_over=*/true);
    EXPECT_FALSE(SourceIsAsked()) << i;
  }
}

}  // namespace
}  // namespace faultline::contract
