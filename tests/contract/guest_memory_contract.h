// What every GuestMemory does, the real one and the fake.
#ifndef FAULTLINE_TESTS_CONTRACT_GUEST_MEMORY_CONTRACT_H_
#define FAULTLINE_TESTS_CONTRACT_GUEST_MEMORY_CONTRACT_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "contract/guest_memory_harness.h"
#include "fakes/poll_loop.h"
#include "seams/guest_memory.h"

namespace faultline {

struct GuestMemoryCase {
  std::string name;
  std::function<std::unique_ptr<GuestMemoryHarness>()> make;
};

class GuestMemoryContract : public testing::TestWithParam<GuestMemoryCase>,
                            public GuestMemory::Listener {
 protected:
  void SetUp() override {
    harness_ = GetParam().make();
    ASSERT_NE(harness_, nullptr);
    memory().StartEvents(this);
  }
  void TearDown() override {
    if (harness_ == nullptr) return;
    // Lets every touch that still waits go on, so that the guest's threads end.
    memory().StopEvents();
    EXPECT_TRUE(memory().ReadEvents(&events_).ok());
    EXPECT_TRUE(memory().Disarm().ok());
  }

  void OnEventsReady() override {
    ++ready_count_;
    if (read_when_ready_) {
      EXPECT_TRUE(memory().ReadEvents(&events_).ok());
    }
  }

  GuestMemory& memory() { return harness_->memory(); }
  PollLoop& loop() { return harness_->loop(); }
  size_t PageBytes(RegionIndex region) { return memory().table().layout()[region].page_size_bytes; }
  std::vector<std::byte> Filled(PageRun run, int value) {
    return std::vector<std::byte>(run.count * PageBytes(run.region), static_cast<std::byte>(value));
  }
  InstallResult Install(PageRun run, int value) {
    std::vector<std::byte> bytes = Filled(run, value);
    return memory().Install(run, bytes);
  }
  // Installs, again while discards are being told.
  void InstallDone(PageRun run, int value) {
    InstallResult result = Install(run, value);
    ASSERT_EQ(result.outcome, InstallOutcome::kDone) << result.error_number;
    EXPECT_EQ(result.pages, run.count);
  }
  void InstallPreCopied(PageRun run, int value) {
    InstallDone(run, value);
    EXPECT_EQ(memory().table().ChangeMissing(run, PageState::kInstalled), run.count);
  }
  bool WaitForFaults(size_t count) {
    return loop().RunUntil([&] { return events_.faults.size() >= count; });
  }
  static bool IsReady(std::future<std::vector<std::byte>>& touched, int timeout_ms = 10000) {
    return touched.wait_for(std::chrono::milliseconds(timeout_ms)) == std::future_status::ready;
  }
  // The value that fills the whole page; -1 if it is not ready, -2 if the bytes differ.
  static int ValueOf(std::future<std::vector<std::byte>>& touched) {
    if (!IsReady(touched)) return -1;
    std::vector<std::byte> bytes = touched.get();
    bool same = std::all_of(bytes.begin(), bytes.end(), [&](std::byte b) { return b == bytes[0]; });
    return same ? static_cast<int>(bytes[0]) : -2;
  }
  int TouchValue(PageId page) {
    auto touched = harness_->Touch(page);
    return ValueOf(touched);
  }

  std::unique_ptr<GuestMemoryHarness> harness_;
  MemoryEvents events_;
  int ready_count_ = 0;
  bool read_when_ready_ = true;
};

TEST_P(GuestMemoryContract, StartsWithEveryPageMissing) {
  PageTable& table = memory().table();
  EXPECT_EQ(table.missing_pages(), TotalPages(table.layout()));
  EXPECT_EQ(table.layout().size(), 2u);
}

TEST_P(GuestMemoryContract, TouchOfMissingPageIsReportedAndWaitsForItsBytes) {
  auto touched = harness_->Touch({1, 3});
  ASSERT_TRUE(WaitForFaults(1));
  EXPECT_EQ(events_.faults, std::vector<PageId>({{1, 3}}));
  EXPECT_TRUE(events_.discards.empty());
  EXPECT_FALSE(IsReady(touched, 20));
  InstallDone({1, 3, 1}, 0x5a);
  EXPECT_EQ(ValueOf(touched), 0x5a);
}

TEST_P(GuestMemoryContract, TouchOfInstalledPageIsNoEvent) {
  InstallDone({0, 2, 4}, 7);
  for (uint64_t page = 2; page < 6; ++page) EXPECT_EQ(TouchValue({0, page}), 7);
  loop().RunFor(20);
  EXPECT_EQ(ready_count_, 0);
}

TEST_P(GuestMemoryContract, FirstAndLastPagesBelongToTheirRegions) {
  for (RegionIndex region : {0u, 1u}) {
    uint64_t last = memory().table().layout()[region].page_count() - 1;
    for (uint64_t page : {uint64_t{0}, last}) {
      events_.Clear();
      auto touched = harness_->Touch({region, page});
      ASSERT_TRUE(WaitForFaults(1));
      EXPECT_EQ(events_.faults.front(), (PageId{region, page}));
      InstallDone({region, page, 1}, static_cast<int>(page % 100) + 1);
      EXPECT_EQ(ValueOf(touched), static_cast<int>(page % 100) + 1);
    }
  }
}

TEST_P(GuestMemoryContract, ZerosReadZero) {
  auto touched = harness_->Touch({0, 1});
  ASSERT_TRUE(WaitForFaults(1));
  InstallResult result = memory().InstallZeros({0, 0, 5});
  EXPECT_EQ(result.outcome, InstallOutcome::kDone);
  EXPECT_EQ(result.pages, 5u);
  EXPECT_EQ(ValueOf(touched), 0);
  EXPECT_EQ(TouchValue({0, 4}), 0);
}

TEST_P(GuestMemoryContract, InstallNeverOverwrites) {
  InstallDone({0, 2, 1}, 1);
  InstallResult result = Install({0, 2, 1}, 2);
  EXPECT_EQ(result.outcome, InstallOutcome::kPresent);
  EXPECT_EQ(result.pages, 0u);
  EXPECT_EQ(memory().InstallZeros({0, 2, 1}).outcome, InstallOutcome::kPresent);
  EXPECT_EQ(TouchValue({0, 2}), 1);
}

TEST_P(GuestMemoryContract, RunStopsAtPresentPage) {
  InstallDone({0, 4, 1}, 1);
  InstallResult result = Install({0, 2, 5}, 2);
  EXPECT_EQ(result.outcome, InstallOutcome::kPresent);
  EXPECT_EQ(result.pages, 2u);
  EXPECT_EQ(TouchValue({0, 3}), 2);
  EXPECT_EQ(TouchValue({0, 4}), 1);
  InstallDone({0, 5, 2}, 3);
  EXPECT_EQ(TouchValue({0, 5}), 3);
}

TEST_P(GuestMemoryContract, EachOfManyWaitersGoesOn) {
  std::vector<std::future<std::vector<std::byte>>> touches;
  for (int i = 0; i < 12; ++i) touches.push_back(harness_->Touch({0, 5}));
  ASSERT_TRUE(WaitForFaults(12));
  InstallDone({0, 5, 1}, 9);
  for (auto& touched : touches) EXPECT_EQ(ValueOf(touched), 9);
}

TEST_P(GuestMemoryContract, WokenWithoutAPageFaultsAgain) {
  auto touched = harness_->Touch({1, 6});
  ASSERT_TRUE(WaitForFaults(1));
  ASSERT_TRUE(memory().Wake({1, 0, 8}).ok());
  ASSERT_TRUE(WaitForFaults(2));
  EXPECT_EQ(events_.faults[1], (PageId{1, 6}));
  InstallDone({1, 6, 1}, 4);
  EXPECT_EQ(ValueOf(touched), 4);
}

TEST_P(GuestMemoryContract, OneOfManyInstallersWins) {
  std::atomic<int> done{0};
  std::atomic<int> present{0};
  std::atomic<int> winner{-1};
  std::vector<std::thread> threads;
  for (int i = 1; i <= 4; ++i) {
    threads.emplace_back([&, i, bytes = Filled({0, 0, 1}, i)] {
      InstallOutcome outcome = memory().Install({0, 0, 1}, bytes).outcome;
      if (outcome == InstallOutcome::kDone) {
        ++done;
        winner = i;
      } else if (outcome == InstallOutcome::kPresent) {
        ++present;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(done, 1);
  EXPECT_EQ(present, 3);
  EXPECT_EQ(TouchValue({0, 0}), winner);
}

TEST_P(GuestMemoryContract, PunchedPageIsMissingAgain) {
  if (!harness_->punches()) GTEST_SKIP() << "nothing outside reaches memory without a file";
  InstallDone({0, 0, 4}, 8);
  ASSERT_TRUE(memory().Punch({0, 1, 2}).ok());
  ASSERT_TRUE(memory().Punch({0, 6, 2}).ok());  // a hole already
  auto touched = harness_->Touch({0, 2});
  ASSERT_TRUE(WaitForFaults(1));
  EXPECT_EQ(memory().InstallZeros({0, 2, 1}).outcome, InstallOutcome::kDone);
  EXPECT_EQ(ValueOf(touched), 0);
  EXPECT_EQ(TouchValue({0, 3}), 8);
}

// As the engine does it: the page is there and the table says so.
#define FAULTLINE_PRE_COPY_OR_SKIP()                                        \
  if (absl::Status able = memory().CheckPreCopy(); !able.ok()) {            \
    ASSERT_FALSE(harness_->punches()) << able;                              \
    GTEST_SKIP() << "nothing outside can write over memory without a file"; \
  }

TEST_P(GuestMemoryContract, OverwrittenPagesHoldTheNewBytes) {
  FAULTLINE_PRE_COPY_OR_SKIP();
  InstallPreCopied({0, 2, 4}, 1);
  EXPECT_EQ(TouchValue({0, 3}), 1);  // mapped already
  std::vector<std::byte> bytes = Filled({0, 3, 2}, 2);
  absl::Status status = memory().Overwrite({0, 3, 2}, bytes);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(TouchValue({0, 2}), 1);
  EXPECT_EQ(TouchValue({0, 3}), 2);
  EXPECT_EQ(TouchValue({0, 4}), 2);
  EXPECT_EQ(TouchValue({0, 5}), 1);
  loop().RunFor(20);
  EXPECT_EQ(ready_count_, 0);
}

TEST_P(GuestMemoryContract, PagesMadeMissingFaultAgainAndTellNoDiscard) {
  FAULTLINE_PRE_COPY_OR_SKIP();
  PageTable& table = memory().table();
  InstallPreCopied({0, 0, 6}, 8);
  EXPECT_EQ(TouchValue({0, 2}), 8);
  const uint64_t missing = table.missing_pages();
  absl::Status status = memory().MakeMissing({0, 1, 3});
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(table.missing_pages(), missing + 3);
  for (uint64_t page = 0; page < 6; ++page) {
    EXPECT_EQ(table.Get({0, page}),
              page >= 1 && page < 4 ? PageState::kMissing : PageState::kInstalled);
  }
  // Also what is missing already, or is said to be absent.
  ASSERT_TRUE(table.Change({1, 0}, PageState::kMissing, PageState::kAbsent));
  ASSERT_TRUE(memory().MakeMissing({1, 0, 2}).ok());
  EXPECT_EQ(table.missing_pages(), missing + 3);
  auto touched = harness_->Touch({0, 2});
  ASSERT_TRUE(WaitForFaults(1));
  EXPECT_EQ(events_.faults.front(), (PageId{0, 2}));
  EXPECT_TRUE(events_.discards.empty());
  EXPECT_FALSE(IsReady(touched, 20));
  InstallDone({0, 1, 3}, 9);
  EXPECT_EQ(ValueOf(touched), 9);
  EXPECT_EQ(TouchValue({0, 4}), 8);
}

TEST_P(GuestMemoryContract, DiscardIsReportedAndHoldsInstallsUp) {
  if (!harness_->tells_discards()) GTEST_SKIP() << "the kernel does not tell of discards here";
  InstallDone({0, 2, 4}, 1);
  read_when_ready_ = false;
  auto discarded = harness_->Discard({0, 3, 2});
  ASSERT_TRUE(loop().RunUntil([&] { return ready_count_ > 0; }));
  // Unread: the guest waits, and so does whoever installs, anywhere.
  EXPECT_EQ(discarded.wait_for(std::chrono::milliseconds(20)), std::future_status::timeout);
  EXPECT_EQ(Install({1, 0, 1}, 1).outcome, InstallOutcome::kRetry);
  EXPECT_EQ(memory().InstallZeros({1, 0, 1}).outcome, InstallOutcome::kRetry);
  ASSERT_TRUE(memory().ReadEvents(&events_).ok());
  EXPECT_EQ(events_.discards, std::vector<PageRun>({{0, 3, 2}}));
  ASSERT_EQ(discarded.wait_for(std::chrono::seconds(10)), std::future_status::ready);
  InstallDone({1, 0, 1}, 1);
  // The pages are gone; their neighbours are not.
  read_when_ready_ = true;
  auto touched = harness_->Touch({0, 3});
  ASSERT_TRUE(WaitForFaults(1));
  EXPECT_EQ(memory().InstallZeros({0, 3, 1}).outcome, InstallOutcome::kDone);
  EXPECT_EQ(ValueOf(touched), 0);
  EXPECT_EQ(TouchValue({0, 2}), 1);
  EXPECT_EQ(TouchValue({0, 5}), 1);
}

TEST_P(GuestMemoryContract, DiscardOfMissingPagesIsReported) {
  if (!harness_->tells_discards()) GTEST_SKIP() << "the kernel does not tell of discards here";
  auto discarded = harness_->Discard({1, 0, 8});
  ASSERT_TRUE(loop().RunUntil([&] { return !events_.discards.empty(); }));
  EXPECT_EQ(events_.discards, std::vector<PageRun>({{1, 0, 8}}));
  EXPECT_EQ(discarded.wait_for(std::chrono::seconds(10)), std::future_status::ready);
}

TEST_P(GuestMemoryContract, DisarmedMemoryReadsZeroWithoutEvents) {
  InstallDone({0, 0, 1}, 3);
  auto touched = harness_->Touch({0, 1});
  ASSERT_TRUE(WaitForFaults(1));
  ASSERT_TRUE(memory().Disarm().ok());
  EXPECT_EQ(ValueOf(touched), 0);
  int ready_before = ready_count_;
  EXPECT_EQ(TouchValue({1, 7}), 0);
  EXPECT_EQ(TouchValue({0, 0}), 3);
  loop().RunFor(20);
  EXPECT_EQ(ready_count_, ready_before);
  EXPECT_EQ(Install({0, 5, 1}, 1).outcome, InstallOutcome::kGone);
}

TEST_P(GuestMemoryContract, NoCallsAfterStopEvents) {
  memory().StopEvents();
  auto touched = harness_->Touch({0, 1});
  loop().RunFor(20);
  EXPECT_EQ(ready_count_, 0);
  // What happened meanwhile is told when it starts again.
  memory().StartEvents(this);
  ASSERT_TRUE(WaitForFaults(1));
  InstallDone({0, 1, 1}, 1);
  EXPECT_EQ(ValueOf(touched), 1);
}

}  // namespace faultline

#endif  // FAULTLINE_TESTS_CONTRACT_GUEST_MEMORY_CONTRACT_H_
