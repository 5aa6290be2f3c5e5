// RDMA held to the transport contract, with real verbs. It needs a device: tests/rdma runs it where
// there is one, elsewhere it is skipped.
#include <gtest/gtest.h>

#include <cstdio>

#include "contract/bulk_lane_contract.h"
#include "contract/control_channel_contract.h"
#include "contract/demand_lane_contract.h"
#include "transport/rdma/rdma_world.h"

namespace faultline::contract {
namespace {

const auto kWorlds = ::testing::Values([] { return std::make_unique<RdmaWorld>(); });

// Where the source writes what it pushes.
const auto kWritingWorlds = ::testing::Values(
    [] { return std::make_unique<RdmaWorld>(RdmaOptions{.tuning = {.bulk = RdmaBulk::kWrite}}); });

INSTANTIATE_TEST_SUITE_P(Rdma, ControlChannelContract, kWorlds);
INSTANTIATE_TEST_SUITE_P(Rdma, DemandLaneContract, kWorlds);
INSTANTIATE_TEST_SUITE_P(Rdma, BulkLaneContract, kWorlds);
INSTANTIATE_TEST_SUITE_P(RdmaWrites, BulkLaneContract, kWritingWorlds);

class RdmaDemandTest : public DemandLaneContract {};
INSTANTIATE_TEST_SUITE_P(Rdma, RdmaDemandTest, kWorlds);

// The source's threads sleep while its memory is read.
TEST_P(RdmaDemandTest, WhatIsRegisteredIsReadWithoutTheSource) {
  StartBoth();
  world_->Settle();  // the destination knows what is readable
  std::vector<PageId> pages;
  for (uint64_t i = 0; i < 1000; ++i) pages.push_back({0, i});
  pages.push_back({1, 0});
  Read(pages);
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.page_count() == pages.size(); }));
  EXPECT_EQ(exporter_notes_.demand_count(), 0u);
  // What was never allocated was not registered either.
  Read({{0, 1200}, {1, 1}});
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.page_count() == pages.size() + 2; }));
  EXPECT_EQ(exporter_notes_.demand_count(), 2u);
}

class RdmaBulkTest : public BulkLaneFixture {};
INSTANTIATE_TEST_SUITE_P(Rdma, RdmaBulkTest, kWorlds);
INSTANTIATE_TEST_SUITE_P(RdmaWrites, RdmaBulkTest, kWritingWorlds);

TEST_P(RdmaBulkTest, WhatOfARunLiesRegisteredGoesByRdmaAndTheRestIsSent) {
  OpenLanes();
  StartReceiver();
  MakePusher({{0, 980, 60}});  // pages 1000 to 1499 hold nothing
  StartPusher();
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.finished(); }));
  const std::vector<PageRun> runs = notes_.runs();
  ASSERT_EQ(runs.size(), 2u);
  EXPECT_EQ(runs[0].first, 980u);
  EXPECT_EQ(runs[0].count, 20u);
  EXPECT_EQ(runs[1].first, 1000u);
  EXPECT_EQ(runs[1].count, 40u);
  // The pages themselves, without a frame's header: they were not sent. Zeros, and the end.
  EXPECT_EQ(push_->bytes_sent(), 20 * 4096 + 2 * kPageFrameBytes);
  const RailFigures rail = world_->destination().rails().front();
  EXPECT_EQ(rail.bytes, 20 * 4096u);
  const bool written = static_cast<RdmaWorld&>(*world_).bulk() == RdmaBulk::kWrite;
  EXPECT_EQ(rail.bytes_written, written ? 20 * 4096u : 0u);
}

}  // namespace
}  // namespace faultline::contract

namespace {

bool HasDevice() {
  faultline::Loop loop("probe");
  const auto events = faultline::RdmaEvents::Make(&loop, [](const absl::Status&) {});
  int devices = 0;
  if (events.ok()) rdma_free_devices(rdma_get_devices(&devices));
  return devices > 0;
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (!HasDevice()) {
    std::printf("skipped: no RDMA device here\n");
    return 77;
  }
  return RUN_ALL_TESTS();
}
