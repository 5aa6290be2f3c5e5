#include "pages/write_history.h"

#include <gtest/gtest.h>

namespace faultline {
namespace {

const MemoryLayout kHistoryLayout = {{"ram", 100 * 0x1000, 0x1000},
                                     {"huge", 3 * 0x200000, 0x200000}};

PageSet SetOf(std::initializer_list<PageRun> runs) {
  PageSet set(kHistoryLayout);
  for (const PageRun& run : runs) set.Add(run);
  return set;
}

TEST(WriteHistoryTest, WhatWasWrittenLastIsHottest) {
  WriteHistory history(kHistoryLayout);
  EXPECT_TRUE(history.empty());
  history.NoteScan(SetOf({{0, 0, 3}, {1, 2, 1}}));
  history.NoteScan(SetOf({{0, 1, 1}}));
  history.NoteScan(SetOf({{0, 1, 1}, {0, 50, 1}}));
  EXPECT_FALSE(history.empty());
  EXPECT_GT(history.HeatOf({0, 1}), history.HeatOf({0, 50})) << "written before too";
  EXPECT_GT(history.HeatOf({0, 50}), history.HeatOf({0, 0})) << "more recent";
  EXPECT_EQ(history.HeatOf({0, 0}), history.HeatOf({1, 2}));
  EXPECT_GT(history.HeatOf({0, 0}), 0);
  EXPECT_EQ(history.HeatOf({0, 99}), 0);
}

TEST(WriteHistoryTest, HotIsWhatTheLastTwoScansFound) {
  WriteHistory history(kHistoryLayout);
  history.NoteScan(SetOf({{0, 0, 10}}));
  EXPECT_TRUE(history.Hot().empty());
  history.NoteScan(SetOf({{0, 5, 10}, {1, 0, 1}}));
  EXPECT_EQ(history.Hot(), SetOf({{0, 5, 5}}));
  history.NoteScan(SetOf({}));
  EXPECT_TRUE(history.Hot().empty());
}

TEST(WriteHistoryTest, HotIsWhatThreeOfTheLastEightScansFound) {
  WriteHistory history(kHistoryLayout);
  for (int i = 0; i < 3; ++i) {
    history.NoteScan(i == 0 ? SetOf({{0, 7, 1}, {1, 1, 1}}) : SetOf({{0, 7, 1}}));
    EXPECT_EQ(history.Hot(), i == 2 ? SetOf({{0, 7, 1}}) : SetOf({}));
    history.NoteScan(SetOf({}));
  }
  for (int i = 0; i < 2; ++i) history.NoteScan(SetOf({}));
  EXPECT_EQ(history.Hot(), SetOf({{0, 7, 1}}));
  history.NoteScan(SetOf({}));
  EXPECT_TRUE(history.Hot().empty()) << "the first of the three is forgotten";
}

TEST(WriteHistoryTest, OldScansAreForgotten) {
  WriteHistory history(kHistoryLayout);
  history.NoteScan(SetOf({{0, 7, 1}}));
  for (int i = 1; i < WriteHistory::kScansKept; ++i) history.NoteScan(SetOf({}));
  EXPECT_EQ(history.HeatOf({0, 7}), 1);
  history.NoteScan(SetOf({}));
  EXPECT_EQ(history.HeatOf({0, 7}), 0);
}

TEST(WriteHistoryTest, OneWithoutALayoutKnowsNothing) {
  const WriteHistory history;
  EXPECT_TRUE(history.empty());
  EXPECT_EQ(history.HeatOf({0, 5}), 0);
}

}  // namespace
}  // namespace faultline
