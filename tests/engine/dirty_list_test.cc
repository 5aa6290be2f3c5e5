#include "engine/dirty_list.h"

#include <gtest/gtest.h>

#include <string>

namespace faultline {
namespace {

const MemoryLayout kListLayout = {{"a", 100 * 4096, 4096}, {"b", 8 * (2 << 20), 2 << 20}};

std::vector<Message> Told(const std::vector<PageRun>& runs, bool integrity,
                          size_t ranges_max = 100) {
  PageSet pages(kListLayout);
  for (const PageRun& run : runs) pages.Add(run);
  std::vector<Message> messages;
  TellDirtyPages(pages, 7, integrity, ranges_max,
                 [&](const Message& message) { messages.push_back(message); });
  return messages;
}

absl::Status Hear(DirtyList* list, const std::vector<Message>& messages) {
  for (const Message& message : messages) {
    if (auto* dirty = std::get_if<StillDirty>(&message)) {
      if (absl::Status status = list->Add(*dirty); !status.ok()) return status;
    }
  }
  return list->End(std::get<StillDirtyEnd>(messages.back()));
}

TEST(DirtyListTest, WhatIsToldIsHeard) {
  const std::vector<PageRun> runs = {{0, 1, 2}, {0, 5, 1}, {0, 90, 10}, {1, 7, 1}};
  for (bool integrity : {false, true}) {
    DirtyList list(kListLayout, integrity);
    for (size_t ranges_max : {100, 1, 2}) {
      ASSERT_TRUE(Hear(&list, Told(runs, integrity, ranges_max)).ok());
      EXPECT_EQ(list.Take(), runs) << "one list after the other";
    }
    ASSERT_TRUE(Hear(&list, Told({}, integrity)).ok());
    EXPECT_TRUE(list.Take().empty());
  }
  EXPECT_EQ(Told(runs, false, 2).size(), 4u) << "two of region a, one of b, the end";
}

TEST(DirtyListTest, AWrongListIsNamed) {
  auto refused = [](StillDirty message, const std::string& field) {
    DirtyList list(kListLayout, false);
    EXPECT_TRUE(list.Add({.region = 0, .ranges = {{10, 20}}}).ok());
    const absl::Status status = list.Add(message);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_NE(MessageOf(status).find(field), std::string::npos) << status;
  };
  refused({.region = 2, .ranges = {{0, 1}}}, "StillDirty.region");
  refused({.region = 0, .ranges = {{19, 21}}}, "StillDirty.ranges");
  refused({.region = 0, .ranges = {{30, 30}}}, "StillDirty.ranges");
  refused({.region = 0, .ranges = {{30, 101}}}, "StillDirty.ranges");
  DirtyList list(kListLayout, false);
  EXPECT_TRUE(absl::IsInvalidArgument(list.End({.round = 1, .dirty_pages = 1})));
}

TEST(DirtyListTest, AListThatChangedOnItsWayIsFoundOut) {
  std::vector<Message> messages = Told({{0, 1, 2}, {1, 3, 1}}, true);
  std::get<StillDirty>(messages[0]).ranges[0] = {2, 4};
  DirtyList list(kListLayout, true);
  EXPECT_TRUE(absl::IsDataLoss(Hear(&list, messages)));
  DirtyList trusting(kListLayout, false);
  EXPECT_TRUE(Hear(&trusting, messages).ok());
}

}  // namespace
}  // namespace faultline
