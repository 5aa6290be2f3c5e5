// What every PushOrder does: all of the map once, nothing else, whatever the peer asks for.
#ifndef FAULTLINE_TESTS_CONTRACT_PUSH_ORDER_CONTRACT_H_
#define FAULTLINE_TESTS_CONTRACT_PUSH_ORDER_CONTRACT_H_

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <random>
#include <set>
#include <string>

#include "seams/push_order.h"

namespace faultline {

struct PushOrderCase {
  std::string name;
  std::function<std::unique_ptr<PushOrder>()> make;
};

class PushOrderContract : public testing::TestWithParam<PushOrderCase> {
 protected:
  static MemoryLayout RandomLayout(std::mt19937_64* random) {
    MemoryLayout layout;
    size_t regions = 1 + (*random)() % 4;
    for (size_t i = 0; i < regions; ++i) {
      uint64_t page_bytes = (*random)() % 4 == 0 ? 2 << 20 : 4096;
      layout.push_back({"r" + std::to_string(i), (1 + (*random)() % 700) * page_bytes, page_bytes});
    }
    return layout;
  }
  static AllocationMap RandomMap(const MemoryLayout& layout, std::mt19937_64* random) {
    AllocationMap map(layout.size());
    for (size_t i = 0; i < layout.size(); ++i) {
      uint64_t pages = layout[i].page_count();
      for (uint64_t ranges = (*random)() % 40; ranges > 0; --ranges) {
        uint64_t first = (*random)() % pages;
        map[i].Add(first, first + 1 + (*random)() % std::min<uint64_t>(100, pages - first));
      }
    }
    return map;
  }
  static std::set<PageId> PagesOf(const AllocationMap& map) {
    std::set<PageId> pages;
    for (RegionIndex region = 0; region < map.size(); ++region) {
      map[region].ForEach([&](PageRange range) {
        for (uint64_t page = range.first; page < range.end; ++page) pages.insert({region, page});
      });
    }
    return pages;
  }
  // Takes `run` out of `left`; every page must be in it, and the run no longer than it may be.
  static void TakeRun(const MemoryLayout& layout, PageRun run, uint64_t bytes_max,
                      std::set<PageId>* left) {
    ASSERT_LT(run.region, layout.size());
    ASSERT_TRUE(run.count == 1 || run.count * layout[run.region].page_size_bytes <= bytes_max);
    for (uint64_t page = run.first; page < run.end(); ++page) {
      ASSERT_EQ(left->erase({run.region, page}), 1u) << run.region << ":" << page;
    }
  }

  std::unique_ptr<PushOrder> order_ = GetParam().make();
};

TEST_P(PushOrderContract, EmptyMapHasNothingToPush) {
  order_->Start({{"ram", 64 * 4096, 4096}}, AllocationMap(1));
  EXPECT_EQ(order_->pages_left(), 0u);
  EXPECT_TRUE(order_->Next(4096).empty());
}

TEST_P(PushOrderContract, RunsAreAsLongAsTheyMayBe) {
  AllocationMap map(1);
  map[0].Add(0, 512);
  order_->Start({{"ram", 512 * 4096, 4096}}, map);
  for (uint64_t i = 0; i < 8; ++i) {
    EXPECT_EQ(order_->Next(64 * 4096), (PageRun{0, i * 64, 64}));
  }
  EXPECT_TRUE(order_->Next(64 * 4096).empty());
}

TEST_P(PushOrderContract, OnePageIsAlwaysGiven) {
  AllocationMap map(1);
  map[0].Add(1, 3);
  order_->Start({{"ram", 4 * (2 << 20), 2 << 20}}, map);
  EXPECT_EQ(order_->Next(1), (PageRun{0, 1, 1}));
  EXPECT_EQ(order_->Next(1), (PageRun{0, 2, 1}));
  EXPECT_TRUE(order_->Next(1).empty());
}

TEST_P(PushOrderContract, EverythingOnceWhateverDemandsCome) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 random(seed);
    MemoryLayout layout = RandomLayout(&random);
    AllocationMap map = RandomMap(layout, &random);
    std::set<PageId> left = PagesOf(map);
    order_->Start(layout, map);
    for (;;) {
      ASSERT_EQ(order_->pages_left(), left.size());
      while (random() % 3 == 0) {
        // Pages in the map and holes, left or not.
        RegionIndex region = static_cast<RegionIndex>(random() % layout.size());
        PageId page{region, random() % layout[region].page_count()};
        order_->OnDemand(page);
        left.erase(page);
      }
      uint64_t bytes_max = uint64_t{1} << (random() % 24);
      PageRun run = order_->Next(bytes_max);
      if (run.empty()) break;
      ASSERT_NO_FATAL_FAILURE(TakeRun(layout, run, bytes_max, &left));
    }
    EXPECT_TRUE(left.empty());
    EXPECT_EQ(order_->pages_left(), 0u);
  }
}

TEST_P(PushOrderContract, IsDeterministic) {
  std::mt19937_64 random(7);
  MemoryLayout layout = RandomLayout(&random);
  AllocationMap map = RandomMap(layout, &random);
  std::vector<PageRun> runs[2];
  for (std::vector<PageRun>& taken : runs) {
    std::unique_ptr<PushOrder> order = GetParam().make();
    order->Start(layout, map);
    std::mt19937_64 demands(9);
    for (PageRun run = order->Next(65536); !run.empty(); run = order->Next(65536)) {
      taken.push_back(run);
      if (demands() % 2 == 0) order->OnDemand({0, demands() % layout[0].page_count()});
    }
  }
  EXPECT_EQ(runs[0], runs[1]);
}

TEST_P(PushOrderContract, DemandOutsideTheLayoutIsIgnored) {
  AllocationMap map(1);
  map[0].Add(0, 4);
  order_->Start({{"ram", 4 * 4096, 4096}}, map);
  order_->OnDemand({3, 0});
  order_->OnDemand({0, 4});
  order_->OnDemand({0, UINT64_MAX});
  EXPECT_EQ(order_->pages_left(), 4u);
}

}  // namespace faultline

#endif  // FAULTLINE_TESTS_CONTRACT_PUSH_ORDER_CONTRACT_H_
