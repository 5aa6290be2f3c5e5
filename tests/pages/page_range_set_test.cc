#include "pages/page_range_set.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <vector>

namespace faultline {
namespace {

std::vector<PageRange> RangesOf(const PageRangeSet& pages) {
  std::vector<PageRange> ranges;
  pages.ForEach([&](PageRange range) { ranges.push_back(range); });
  return ranges;
}

TEST(PageRangeSet, MergesWhatTouches) {
  PageRangeSet pages;
  pages.Add(10, 20);
  pages.Add(30, 40);
  pages.Add(20, 30);
  EXPECT_EQ(RangesOf(pages), (std::vector<PageRange>{{10, 40}}));
  pages.Add(40, 41);
  pages.Add(42, 43);
  EXPECT_EQ(RangesOf(pages), (std::vector<PageRange>{{10, 41}, {42, 43}}));
  EXPECT_EQ(pages.page_count(), 32u);
}

TEST(PageRangeSet, RemoveSplits) {
  PageRangeSet pages;
  pages.Add(0, 100);
  pages.Remove(10, 20);
  pages.Remove(90, 200);
  EXPECT_EQ(RangesOf(pages), (std::vector<PageRange>{{0, 10}, {20, 90}}));
  EXPECT_EQ(pages.page_count(), 80u);
}

TEST(PageRangeSet, AgreesWithASetOfPages) {
  constexpr uint64_t kPages = 120;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 random(seed);
    PageRangeSet pages;
    std::set<uint64_t> model;
    for (int step = 0; step < 300; ++step) {
      uint64_t first = random() % kPages;
      uint64_t end = first + 1 + random() % 12;
      if (random() % 2 == 0) {
        pages.Add(first, end);
        for (uint64_t page = first; page < end; ++page) model.insert(page);
      } else {
        pages.Remove(first, end);
        for (uint64_t page = first; page < end; ++page) model.erase(page);
      }
      ASSERT_EQ(pages.page_count(), model.size());
      ASSERT_EQ(pages.empty(), model.empty());
      uint64_t probe = random() % (kPages + 20);
      ASSERT_EQ(pages.Contains(probe), model.contains(probe));
      auto next = model.lower_bound(probe);
      auto found = pages.FindFrom(probe);
      ASSERT_EQ(found.has_value(), next != model.end());
      ASSERT_TRUE(!found.has_value() || found->first == *next);
    }
    // The ranges are whole, ascending and apart.
    std::set<uint64_t> seen;
    uint64_t end = 0;
    size_t count = 0;
    pages.ForEach([&](PageRange range) {
      EXPECT_LT(range.first, range.end);
      EXPECT_TRUE(count == 0 || range.first > end);
      end = range.end;
      ++count;
      for (uint64_t page = range.first; page < range.end; ++page) seen.insert(page);
    });
    EXPECT_EQ(count, pages.range_count());
    EXPECT_EQ(seen, model);
  }
}

TEST(PageRangeSet, ClearEmpties) {
  PageRangeSet pages;
  pages.Add(1, 2);
  pages.Clear();
  EXPECT_EQ(pages, PageRangeSet());
  EXPECT_FALSE(pages.FindFrom(0).has_value());
}

TEST(PageRangeSet, IntersectionIsWhatBothHold) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 200; ++round) {
    PageRangeSet a, b, both;
    for (uint64_t page = 0; page < 60; ++page) {
      const bool in_a = random() % 3 != 0;
      const bool in_b = random() % 2 != 0;
      if (in_a) a.Add(page, page + 1);
      if (in_b) b.Add(page, page + 1);
      if (in_a && in_b) both.Add(page, page + 1);
    }
    EXPECT_EQ(Intersection(a, b), both);
    EXPECT_EQ(Intersection(b, a), both);
  }
  PageRangeSet some;
  some.Add(3, 9);
  EXPECT_TRUE(Intersection(some, PageRangeSet()).empty());
  EXPECT_EQ(Intersection(some, some), some);
}

}  // namespace
}  // namespace faultline
