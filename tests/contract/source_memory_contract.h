// What every SourceMemory does, the real one and the fake.
#ifndef FAULTLINE_TESTS_CONTRACT_SOURCE_MEMORY_CONTRACT_H_
#define FAULTLINE_TESTS_CONTRACT_SOURCE_MEMORY_CONTRACT_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "seams/source_memory.h"

namespace faultline {

// A guest with two regions of at least 8 pages whose memory is under test.
class SourceMemoryHarness {
 public:
  virtual ~SourceMemoryHarness() = default;
  virtual SourceMemory& memory() = 0;
  // The guest fills a page with `value`, or gives it up.
  virtual void Fill(PageId page, std::byte value) = 0;
  virtual void Punch(PageId page) = 0;
  // Pages that the guest's memory takes on this host.
  virtual uint64_t pages_held() = 0;
};

struct SourceMemoryCase {
  std::string name;
  std::function<std::unique_ptr<SourceMemoryHarness>()> make;
};

class SourceMemoryContract : public testing::TestWithParam<SourceMemoryCase> {
 protected:
  void SetUp() override {
    harness_ = GetParam().make();
    ASSERT_NE(harness_, nullptr);
  }
  SourceMemory& memory() { return harness_->memory(); }
  // The ranges of one region's map.
  std::vector<PageRange> MapOf(RegionIndex region) {
    absl::StatusOr<AllocationMap> map = memory().ReadAllocationMap();
    EXPECT_TRUE(map.ok()) << map.status();
    std::vector<PageRange> ranges;
    if (!map.ok()) return ranges;
    EXPECT_EQ(map->size(), memory().layout().size());
    (*map)[region].ForEach([&](PageRange range) { ranges.push_back(range); });
    return ranges;
  }
  bool Reads(PageRun run, std::byte value) {
    const uint64_t page_bytes = memory().layout()[run.region].page_size_bytes;
    std::vector<std::byte> bytes(run.count * page_bytes);
    absl::Status status = memory().Read(run.region, run.first * page_bytes, bytes);
    EXPECT_TRUE(status.ok()) << status;
    return std::all_of(bytes.begin(), bytes.end(), [&](std::byte byte) { return byte == value; });
  }

  std::unique_ptr<SourceMemoryHarness> harness_;
};

TEST_P(SourceMemoryContract, FreshMemoryHoldsNothing) {
  EXPECT_EQ(memory().layout().size(), 2u);
  EXPECT_TRUE(MapOf(0).empty());
  EXPECT_TRUE(MapOf(1).empty());
}

TEST_P(SourceMemoryContract, MapNamesWhatTheGuestFilled) {
  uint64_t last = memory().layout()[1].page_count() - 1;
  for (uint64_t page : {0, 2, 3, 4}) harness_->Fill({0, page}, std::byte{1});
  harness_->Fill({1, last}, std::byte{2});
  EXPECT_EQ(MapOf(0), (std::vector<PageRange>{{0, 1}, {2, 5}}));
  EXPECT_EQ(MapOf(1), (std::vector<PageRange>{{last, last + 1}}));
}

TEST_P(SourceMemoryContract, MapForgetsWhatTheGuestGaveUp) {
  for (uint64_t page = 0; page < 8; ++page) harness_->Fill({0, page}, std::byte{1});
  harness_->Punch({0, 3});
  EXPECT_EQ(MapOf(0), (std::vector<PageRange>{{0, 3}, {4, 8}}));
}

TEST_P(SourceMemoryContract, ReadingCopiesBytesAndLeavesHolesAlone) {
  const uint64_t page_bytes = memory().layout()[1].page_size_bytes;
  harness_->Fill({1, 2}, std::byte{7});
  std::vector<std::byte> bytes(2 * page_bytes, std::byte{1});
  absl::Status status = memory().Read(1, 2 * page_bytes - page_bytes / 2, bytes);
  ASSERT_TRUE(status.ok()) << status;
  for (size_t i = 0; i < bytes.size(); ++i) {
    const bool inside = i >= page_bytes / 2 && i < page_bytes / 2 + page_bytes;
    ASSERT_EQ(bytes[i], inside ? std::byte{7} : std::byte{0}) << i;
  }
  EXPECT_EQ(harness_->pages_held(), 1u);
}

TEST_P(SourceMemoryContract, BytesAreThoseOfNow) {
  harness_->Fill({0, 5}, std::byte{1});
  harness_->Fill({0, 6}, std::byte{1});
  harness_->Fill({1, 5}, std::byte{2});
  EXPECT_TRUE(Reads({0, 5, 2}, std::byte{1}));
  EXPECT_TRUE(Reads({1, 5, 1}, std::byte{2}));
  harness_->Fill({0, 6}, std::byte{7});
  EXPECT_TRUE(Reads({0, 5, 1}, std::byte{1}));
  EXPECT_TRUE(Reads({0, 6, 1}, std::byte{7}));
}

TEST_P(SourceMemoryContract, ReadingTheMapAllocatesNothing) {
  harness_->Fill({0, 1}, std::byte{1});
  harness_->Fill({1, 6}, std::byte{1});
  uint64_t before = harness_->pages_held();
  EXPECT_EQ(MapOf(0).size(), 1u);
  EXPECT_EQ(MapOf(1).size(), 1u);
  EXPECT_EQ(harness_->pages_held(), before);
}

TEST_P(SourceMemoryContract, EveryOtherPage) {
  uint64_t pages = memory().layout()[0].page_count();
  std::vector<PageRange> wanted;
  for (uint64_t page = 1; page < pages; page += 2) {
    harness_->Fill({0, page}, std::byte{3});
    wanted.push_back({page, page + 1});
  }
  EXPECT_EQ(MapOf(0), wanted);
}

}  // namespace faultline

#endif  // FAULTLINE_TESTS_CONTRACT_SOURCE_MEMORY_CONTRACT_H_
