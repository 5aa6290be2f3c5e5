// What every DirtyTracker does, the real ones and the fake.
#ifndef FAULTLINE_TESTS_CONTRACT_DIRTY_TRACKER_CONTRACT_H_
#define FAULTLINE_TESTS_CONTRACT_DIRTY_TRACKER_CONTRACT_H_

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "seams/dirty_tracker.h"

namespace faultline {

// A guest with two regions, of at least 8 pages each, that runs (or stands still around each call
// of a tracker that needs it).
class DirtyTrackerHarness {
 public:
  virtual ~DirtyTrackerHarness() = default;
  virtual const MemoryLayout& layout() = 0;
  // The one under test; null after DropTracker.
  virtual DirtyTracker& tracker() = 0;
  // Destroys it.
  virtual void DropTracker() = 0;
  // The guest writes into a page, as its own process does; any thread.
  virtual void Write(PageId page) = 0;
  // The guest reads a page.
  virtual void Read(PageId page) = 0;
  // Whether the VM's writes are slowed by tracking at all.
  virtual bool IsTracked() = 0;
};

struct DirtyTrackerCase {
  std::string name;
  std::function<std::unique_ptr<DirtyTrackerHarness>()> make;
  std::string absent;  // why this kernel cannot have it; empty: it can
};

class DirtyTrackerContract : public testing::TestWithParam<DirtyTrackerCase> {
 protected:
  void SetUp() override {
    if (!GetParam().absent.empty()) GTEST_SKIP() << GetParam().absent;
    harness_ = GetParam().make();
  }
  DirtyTracker& tracker() { return harness_->tracker(); }
  uint64_t PageCount(RegionIndex region) { return harness_->layout()[region].page_count(); }
  void Start() {
    absl::Status status = tracker().Start();
    ASSERT_TRUE(status.ok()) << status;
  }
  // What a scan of `run` says.
  std::vector<PageRange> Scan(PageRun run, AfterScan after = AfterScan::kClean) {
    PageSet written(harness_->layout());
    absl::Status status = tracker().Scan({&run, 1}, after, &written);
    EXPECT_TRUE(status.ok()) << status;
    return RangesOf(written, run.region);
  }
  static std::vector<PageRange> RangesOf(const PageSet& pages, RegionIndex region) {
    std::vector<PageRange> ranges;
    pages.RangesOf(region).ForEach([&](PageRange range) { ranges.push_back(range); });
    return ranges;
  }
  std::vector<PageRange> ScanAll(RegionIndex region) {
    return Scan({region, 0, PageCount(region)});
  }
  using Ranges = std::vector<PageRange>;

  std::unique_ptr<DirtyTrackerHarness> harness_;
};

TEST_P(DirtyTrackerContract, AllIsCleanFromTheStart) {
  harness_->Write({0, 1});
  harness_->Write({1, 7});
  Start();
  EXPECT_EQ(ScanAll(0), Ranges());
  EXPECT_EQ(ScanAll(1), Ranges());
  EXPECT_EQ(harness_->IsTracked(), tracker().mechanism() != "soft-dirty");
}

TEST_P(DirtyTrackerContract, AScanNamesWhatWasWrittenOnce) {
  harness_->Write({0, 2});  // it was there before
  Start();
  for (uint64_t page : {2, 3, 4, 6}) harness_->Write({0, page});
  harness_->Write({1, PageCount(1) - 1});
  EXPECT_EQ(ScanAll(0), (Ranges{{2, 5}, {6, 7}}));
  EXPECT_EQ(ScanAll(0), Ranges());
  EXPECT_EQ(ScanAll(1), (Ranges{{PageCount(1) - 1, PageCount(1)}}));
  harness_->Write({0, 3});
  EXPECT_EQ(ScanAll(0), (Ranges{{3, 4}}));
}

TEST_P(DirtyTrackerContract, AScanOfAPartLeavesTheRestWritten) {
  Start();
  for (uint64_t page : {0, 1, 3, 4, 5, 7}) harness_->Write({1, page});
  EXPECT_EQ(Scan({1, 1, 4}), (Ranges{{1, 2}, {3, 5}}));
  EXPECT_EQ(Scan({1, 1, 4}), Ranges());
  EXPECT_EQ(Scan({1, 0, 8}), (Ranges{{0, 1}, {5, 6}, {7, 8}}));
}

TEST_P(DirtyTrackerContract, AScanAddsToWhatIsThere) {
  Start();
  harness_->Write({0, 4});
  PageSet written(harness_->layout());
  written.Add({0, 0, 1});
  PageRun run{0, 0, 8};
  ASSERT_TRUE(tracker().Scan({&run, 1}, AfterScan::kClean, &written).ok());
  EXPECT_EQ(RangesOf(written, 0), (Ranges{{0, 1}, {4, 5}}));
  run.count = 0;
  ASSERT_TRUE(tracker().Scan({&run, 1}, AfterScan::kClean, &written).ok());
  ASSERT_TRUE(tracker().Scan({}, AfterScan::kClean, &written).ok());
  EXPECT_EQ(RangesOf(written, 0), (Ranges{{0, 1}, {4, 5}}));
}

TEST_P(DirtyTrackerContract, OneScanOfSeveralRuns) {
  Start();
  for (uint64_t page : {1, 3, 5, 7}) {
    harness_->Write({0, page});
    harness_->Write({1, page});
  }
  const std::vector<PageRun> runs = {{1, 0, 4}, {0, 2, 2}, {0, 5, 3}};
  PageSet written(harness_->layout());
  ASSERT_TRUE(tracker().Scan(runs, AfterScan::kClean, &written).ok());
  EXPECT_EQ(RangesOf(written, 0), (Ranges{{3, 4}, {5, 6}, {7, 8}}));
  EXPECT_EQ(RangesOf(written, 1), (Ranges{{1, 2}, {3, 4}}));
  EXPECT_EQ(ScanAll(0), (Ranges{{1, 2}}));
  EXPECT_EQ(ScanAll(1), (Ranges{{5, 6}, {7, 8}}));
}

TEST_P(DirtyTrackerContract, AScanThatLeavesAllAsItIsCanBeRepeated) {
  Start();
  for (uint64_t page : {1, 2, 6}) harness_->Write({1, page});
  for (int times = 0; times < 2; ++times) {
    EXPECT_EQ(Scan({1, 0, 8}, AfterScan::kAsItIs), (Ranges{{1, 3}, {6, 7}}));
    EXPECT_EQ(Scan({1, 2, 3}, AfterScan::kAsItIs), (Ranges{{2, 3}}));
  }
  harness_->Write({1, 3});
  EXPECT_EQ(ScanAll(1), (Ranges{{1, 4}, {6, 7}}));
  EXPECT_EQ(ScanAll(1), Ranges());
}

TEST_P(DirtyTrackerContract, ReadingIsNoWrite) {
  harness_->Write({0, 1});
  Start();
  harness_->Read({0, 1});
  harness_->Read({0, 5});  // a hole
  harness_->Read({1, 0});
  EXPECT_EQ(ScanAll(0), Ranges());
  EXPECT_EQ(ScanAll(1), Ranges());
}

TEST_P(DirtyTrackerContract, EveryPageAndEveryOtherPage) {
  Start();
  const uint64_t pages = PageCount(0);
  for (uint64_t page = 0; page < pages; ++page) harness_->Write({0, page});
  EXPECT_EQ(ScanAll(0), (Ranges{{0, pages}}));
  Ranges wanted;
  for (uint64_t page = 1; page < pages; page += 2) {
    harness_->Write({0, page});
    wanted.push_back({page, page + 1});
  }
  EXPECT_EQ(ScanAll(0), wanted);
}

TEST_P(DirtyTrackerContract, StopLeavesNoProtectionBehind) {
  Start();
  harness_->Write({0, 3});
  ASSERT_TRUE(tracker().Stop().ok());
  EXPECT_FALSE(harness_->IsTracked());
  harness_->Write({0, 3});
  harness_->Write({1, 0});
  EXPECT_TRUE(tracker().Stop().ok());
}

TEST_P(DirtyTrackerContract, StopWithoutAStart) {
  ASSERT_TRUE(tracker().Stop().ok());
  EXPECT_FALSE(harness_->IsTracked());
}

TEST_P(DirtyTrackerContract, ItsEndStopsIt) {
  Start();
  harness_->Write({0, 3});
  harness_->DropTracker();
  EXPECT_FALSE(harness_->IsTracked());
  harness_->Write({0, 3});
}

TEST_P(DirtyTrackerContract, NoWriteIsLostBetweenScans) {
  Start();
  // One thread writes page after page and says how far it is; each of them must be in some scan.
  const uint64_t pages = PageCount(0);
  std::vector<std::atomic<int>> writes(pages);
  std::atomic<bool> stop{false};
  std::mutex stands_still;  // held around scans where they need that
  std::thread guest([&] {
    for (uint64_t step = 0; !stop; ++step) {
      const uint64_t page = step * 7 % pages;
      {
        std::lock_guard runs(stands_still);
        harness_->Write({0, page});
        ++writes[page];
      }
      std::this_thread::yield();  // or a mutex would hardly ever be anybody else's
    }
  });
  for (int round = 0; round < 200; ++round) {
    std::unique_lock pause(stands_still, std::defer_lock);
    if (tracker().needs_paused_vm()) pause.lock();
    PageSet written(harness_->layout());
    const PageRun all{0, 0, pages};
    ASSERT_TRUE(tracker().Scan({&all, 1}, AfterScan::kClean, &written).ok());
    if (pause.owns_lock()) pause.unlock();
    for (uint64_t page = 0; page < pages; ++page) {
      if (!written.Contains({0, page})) continue;
      writes[page] = 0;
    }
  }
  stop = true;
  guest.join();
  // What was written after its last scan had come back is in this one.
  PageSet last(harness_->layout());
  const PageRun all{0, 0, pages};
  ASSERT_TRUE(tracker().Scan({&all, 1}, AfterScan::kAsItIs, &last).ok());
  for (uint64_t page = 0; page < pages; ++page) {
    if (writes[page] > 1) {
      EXPECT_TRUE(last.Contains({0, page})) << page;
    }
  }
}

}  // namespace faultline

#endif  // FAULTLINE_TESTS_CONTRACT_DIRTY_TRACKER_CONTRACT_H_
