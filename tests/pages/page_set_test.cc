#include "pages/page_set.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <vector>

namespace faultline {
namespace {

const MemoryLayout kSetLayout = {{"ram", 200 * 0x1000, 0x1000}, {"huge", 3 * 0x200000, 0x200000}};

PageSet SetOf(const std::vector<PageRun>& runs) {
  PageSet set(kSetLayout);
  for (const PageRun& run : runs) set.Add(run);
  return set;
}

std::vector<PageRun> RunsOf(const PageSet& set) {
  std::vector<PageRun> runs;
  set.ForEach([&](PageRun run) { runs.push_back(run); });
  return runs;
}

TEST(PageSetTest, RunsComeBackMergedAndInOrder) {
  PageSet set = SetOf({{0, 60, 10}, {1, 2, 1}, {0, 70, 3}, {0, 127, 73}, {0, 0, 1}});
  EXPECT_EQ(RunsOf(set), (std::vector<PageRun>{{0, 0, 1}, {0, 60, 13}, {0, 127, 73}, {1, 2, 1}}));
  EXPECT_EQ(set.page_count(), 1u + 13 + 73 + 1);
  EXPECT_EQ(set.byte_count(), 87u * 0x1000 + 0x200000);
  EXPECT_TRUE(set.Contains({0, 64}));
  EXPECT_FALSE(set.Contains({0, 73}));
  set.Remove({0, 64, 64});
  EXPECT_EQ(RunsOf(set), (std::vector<PageRun>{{0, 0, 1}, {0, 60, 4}, {0, 128, 72}, {1, 2, 1}}));
  PageRangeSet ranges;
  ranges.Add(0, 1);
  ranges.Add(60, 64);
  ranges.Add(128, 200);
  EXPECT_EQ(set.RangesOf(0), ranges);
  EXPECT_EQ(PageSet(kSetLayout, {set.RangesOf(0), set.RangesOf(1)}), set);
  set.Clear();
  EXPECT_TRUE(set.empty());
  EXPECT_EQ(RunsOf(set), std::vector<PageRun>{});
}

TEST(PageSetTest, AStretchIsNoLongerThanAskedFor) {
  const PageSet set = SetOf({{0, 10, 100}});
  EXPECT_EQ(set.FindFirst({0, 0, 200}, 7), (PageRun{0, 10, 7}));
  EXPECT_EQ(set.FindFirst({0, 17, 183}), (PageRun{0, 17, 93}));
  EXPECT_EQ(set.FindFirst({0, 17, 5}), (PageRun{0, 17, 5}));
  EXPECT_TRUE(set.FindFirst({0, 110, 90}).empty());
  EXPECT_TRUE(set.FindFirst({1, 0, 3}).empty());
}

TEST(PageSetTest, CombinesAsSetsDo) {
  std::mt19937_64 random(11);
  for (int round = 0; round < 200; ++round) {
    PageSet a(kSetLayout), b(kSetLayout);
    std::set<PageId> in_a, in_b;
    for (int i = 0; i < 40; ++i) {
      const PageRun run{0, random() % 190, 1 + random() % 10};
      (i % 2 == 0 ? a : b).Add(run);
      for (uint64_t page = run.first; page < run.end(); ++page) {
        (i % 2 == 0 ? in_a : in_b).insert({0, page});
      }
    }
    PageSet united = a, both = a, rest = a;
    united.Unite(b);
    both.Intersect(b);
    rest.Subtract(b);
    for (uint64_t page = 0; page < 200; ++page) {
      const PageId id{0, page};
      EXPECT_EQ(united.Contains(id), in_a.contains(id) || in_b.contains(id));
      EXPECT_EQ(both.Contains(id), in_a.contains(id) && in_b.contains(id));
      EXPECT_EQ(rest.Contains(id), in_a.contains(id) && !in_b.contains(id));
    }
    EXPECT_EQ(united.page_count(), a.page_count() + b.page_count() - both.page_count());
  }
}

}  // namespace
}  // namespace faultline
