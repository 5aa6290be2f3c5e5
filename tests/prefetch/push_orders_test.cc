#include "prefetch/push_orders.h"

#include <gmock/gmock.h>

#include "contract/push_order_contract.h"

namespace faultline {
namespace {

INSTANTIATE_TEST_SUITE_P(
    All, PushOrderContract,
    testing::Values(PushOrderCase{"Plain", [] { return *MakePushOrder("plain"); }},
                    PushOrderCase{"FaultAround", [] { return *MakePushOrder("fault-around"); }},
                    PushOrderCase{"HotFirst", [] { return *MakePushOrder("hot-first"); }}),
    [](const auto& tested) { return std::string(tested.param.name); });

constexpr uint64_t kRunBytes = 64 * 4096;

// One region of 4,096 pages, all of them data.
template <typename Order>
void StartFull(Order* order) {
  AllocationMap map(1);
  map[0].Add(0, 4096);
  order->Start({{"ram", 4096 * 4096, 4096}}, map);
}

TEST(MakePushOrder, UnknownNameListsThoseThereAre) {
  absl::Status status = MakePushOrder("fastest").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(MessageOf(status), testing::HasSubstr("'fastest'"));
  for (const std::string& name : PushOrderNames()) {
    EXPECT_THAT(MessageOf(status), testing::HasSubstr(name));
    EXPECT_TRUE(MakePushOrder(name).ok());
  }
}

TEST(PlainOrder, DemandsChangeOnlyWhatIsLeft) {
  PlainOrder order;
  StartFull(&order);
  order.OnDemand({0, 2000});
  order.OnDemand({0, 10});
  EXPECT_EQ(order.Next(kRunBytes), (PageRun{0, 0, 10}));
  EXPECT_EQ(order.Next(kRunBytes), (PageRun{0, 11, 64}));
}

TEST(FaultAroundOrder, GoesOnBehindThePageThenBeforeIt) {
  FaultAroundOrder order(128 * 4096, 16 * 4096);
  StartFull(&order);
  EXPECT_EQ(order.Next(kRunBytes), (PageRun{0, 0, 64}));
  order.OnDemand({0, 1000});
  EXPECT_EQ(order.Next(kRunBytes), (PageRun{0, 1001, 64}));
  EXPECT_EQ(order.Next(kRunBytes), (PageRun{0, 1065, 64}));
  EXPECT_EQ(order.Next(kRunBytes), (PageRun{0, 984, 16}));
  EXPECT_EQ(order.Next(kRunBytes), (PageRun{0, 64, 64}));
}

TEST(FaultAroundOrder, TheLatestDemandComesFirst) {
  FaultAroundOrder order(64 * 4096, 0);
  StartFull(&order);
  order.OnDemand({0, 1000});
  order.OnDemand({0, 3000});
  EXPECT_EQ(order.Next(kRunBytes), (PageRun{0, 3001, 64}));
  EXPECT_EQ(order.Next(kRunBytes), (PageRun{0, 1001, 64}));
}

TEST(FaultAroundOrder, AGuestThatGoesThroughItsMemoryHasMoreAndMorePushedAhead) {
  FaultAroundOrder order(16 * 4096, 0);
  StartFull(&order);
  uint64_t page = 1000;
  for (uint64_t ahead : {16, 32, 64}) {
    order.OnDemand({0, page});
    EXPECT_EQ(order.Next(kRunBytes), (PageRun{0, page + 1, ahead}));
    page += 1 + ahead;
  }
  order.OnDemand({0, page + 3});  // the pages between came in plain order, say
  EXPECT_EQ(order.Next(kRunBytes), (PageRun{0, page + 4, 64}));
  EXPECT_EQ(order.Next(kRunBytes), (PageRun{0, page + 68, 64}));
  order.OnDemand({0, 3000});  // elsewhere
  EXPECT_EQ(order.Next(kRunBytes), (PageRun{0, 3001, 16}));
}

TEST(FaultAroundOrder, WhatIsPushedAheadHasALimit) {
  FaultAroundOrder order(4096, 0);
  AllocationMap map(1);
  map[0].Add(0, 100'000);
  order.Start({{"ram", uint64_t{100'000} * 4096, 4096}}, map);
  uint64_t page = 0;
  for (int i = 0; i < 16; ++i) {
    order.OnDemand({0, page});
    const PageRun run = order.Next(uint64_t{1} << 40);
    ASSERT_EQ(run.first, page + 1);
    ASSERT_LE(run.count, 2048u);
    page = run.end();
  }
}

TEST(FaultAroundOrder, WindowsEndWithTheRegion) {
  FaultAroundOrder order;
  StartFull(&order);
  order.OnDemand({0, 4095});
  EXPECT_EQ(order.Next(kRunBytes), (PageRun{0, 4079, 16}));
  order.OnDemand({0, 0});
  EXPECT_EQ(order.Next(kRunBytes), (PageRun{0, 1, 64}));
}

TEST(FaultAroundOrder, HugePageIsFollowedByOne) {
  FaultAroundOrder order;
  AllocationMap map(1);
  map[0].Add(0, 8);
  order.Start({{"ram", 8 * (2 << 20), 2 << 20}}, map);
  order.OnDemand({0, 5});
  EXPECT_EQ(order.Next(kRunBytes), (PageRun{0, 6, 1}));
  EXPECT_EQ(order.Next(kRunBytes), (PageRun{0, 0, 1}));
}

TEST(FaultAroundOrder, ForgetsTheOldestOfManyDemands) {
  FaultAroundOrder order(4096, 0);
  StartFull(&order);
  for (uint64_t i = 1; i <= 40; ++i) order.OnDemand({0, i * 100});
  for (uint64_t i = 40; i > 24; --i) EXPECT_EQ(order.Next(kRunBytes), (PageRun{0, i * 100 + 1, 1}));
  EXPECT_EQ(order.Next(kRunBytes).first, 0u);
}

TEST(HotFirstOrder, WhatWasWrittenLastComesFirstBehindWhatIsNeeded) {
  const MemoryLayout layout = {{"ram", 4096 * 4096, 4096}};
  WriteHistory history(layout);
  auto scan = [&](std::initializer_list<PageRun> runs) {
    PageSet written(layout);
    for (const PageRun& run : runs) written.Add(run);
    history.NoteScan(written);
  };
  scan({{0, 3000, 2}, {0, 2000, 4}});
  scan({{0, 2000, 1}, {0, 1000, 1}});
  HotFirstOrder order;
  order.SetHistory(&history);
  StartFull(&order);
  EXPECT_EQ(order.Next(kRunBytes), (PageRun{0, 2000, 1})) << "in both";
  EXPECT_EQ(order.Next(kRunBytes), (PageRun{0, 1000, 1}));
  order.OnDemand({0, 500});
  EXPECT_EQ(order.Next(kRunBytes), (PageRun{0, 501, 64}));
  order.OnDemand({0, 2002});
  while (order.Next(kRunBytes).first != 1986) continue;  // around that page
  EXPECT_EQ(order.Next(kRunBytes), (PageRun{0, 2001, 1}));
  EXPECT_EQ(order.Next(kRunBytes), (PageRun{0, 484, 16})) << "what was left around the other";
}

TEST(HotFirstOrder, PagesOfOneHeatComeInOrder) {
  const MemoryLayout layout = {{"ram", 4096 * 4096, 4096}};
  WriteHistory history(layout);
  PageSet written(layout);
  written.Add({0, 3000, 100});
  written.Add({0, 40, 2});
  history.NoteScan(written);
  HotFirstOrder order;
  order.SetHistory(&history);
  StartFull(&order);
  EXPECT_EQ(order.Next(kRunBytes), (PageRun{0, 40, 2}));
  EXPECT_EQ(order.Next(kRunBytes), (PageRun{0, 3000, 64}));
  EXPECT_EQ(order.Next(kRunBytes), (PageRun{0, 3064, 36}));
  EXPECT_EQ(order.Next(kRunBytes), (PageRun{0, 0, 40}));
  order.Start(layout, [] {
    AllocationMap map(1);
    map[0].Add(0, 100);
    return map;
  }());
  EXPECT_EQ(order.Next(kRunBytes), (PageRun{0, 0, 64})) << "a history counts once";
}

TEST(PageBitmap, FindsAcrossWordBoundaries) {
  PageRangeSet pages;
  pages.Add(60, 200);
  pages.Add(320, 321);
  PageBitmap bitmap(321, pages);
  EXPECT_EQ(bitmap.TakeFirst(0, 60, 100), PageRange());
  EXPECT_EQ(bitmap.TakeFirst(0, 321, 100), (PageRange{60, 160}));
  EXPECT_TRUE(bitmap.Remove(170));
  EXPECT_FALSE(bitmap.Remove(170));
  EXPECT_EQ(bitmap.TakeFirst(0, 321, 100), (PageRange{160, 170}));
  EXPECT_EQ(bitmap.TakeFirst(0, 180, 100), (PageRange{171, 180}));
  EXPECT_EQ(bitmap.TakeFirst(180, 321, UINT64_MAX), (PageRange{180, 200}));
  EXPECT_EQ(bitmap.TakeFirst(0, 321, 1), (PageRange{320, 321}));
  EXPECT_EQ(bitmap.pages_left(), 0u);
}

}  // namespace
}  // namespace faultline
