// Tracking by write protection, where the kernel does more than the contract asks of everybody.
#include "memory/wp_tracker.h"

#include <gmock/gmock.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "memory/dirty_tracker_factories.h"
#include "memory/guest_mapping.h"
#include "memory/vm_flags.h"

namespace faultline {
namespace {

using testing::HasSubstr;

class WpTrackerTest : public testing::Test {
 protected:
  void Open(RamKind kind, uint64_t pages) {
    region_ = std::make_unique<GuestRegion>(kind, "ram0", pages);
    vm_.regions = {region_->ram()};
    LocalDirtyTrackerFactory factory;
    absl::StatusOr<std::unique_ptr<DirtyTracker>> tracker = factory.Open(vm_);
    ASSERT_TRUE(tracker.ok()) << tracker.status();
    tracker_ = std::move(*tracker);
  }
  void Start() {
    absl::Status status = tracker_->Start();
    ASSERT_TRUE(status.ok()) << status;
  }
  void Write(uint64_t page) {
    auto* word = reinterpret_cast<volatile uint64_t*>(region_->at(page));
    *word = *word + 1;
  }
  void Read(uint64_t page) {
    static_cast<void>(*reinterpret_cast<volatile uint64_t*>(region_->at(page)));
  }
  std::vector<PageRange> Scan() {
    PageSet written(vm_.layout());
    const PageRun all{0, 0, region_->ram().layout.page_count()};
    absl::Status status = tracker_->Scan({&all, 1}, AfterScan::kClean, &written);
    EXPECT_TRUE(status.ok()) << status;
    std::vector<PageRange> ranges;
    written.RangesOf(0).ForEach([&](PageRange range) { ranges.push_back(range); });
    return ranges;
  }
  using Ranges = std::vector<PageRange>;

  std::unique_ptr<GuestRegion> region_;
  VmDescription vm_;
  std::unique_ptr<DirtyTracker> tracker_;
};

TEST_F(WpTrackerTest, PagesThatAreInTheFileAndNotMappedYet) {
  Open(RamKind::kTmpfs, 64);
  std::vector<std::byte> bytes(64 * 4096, std::byte{5});
  ASSERT_EQ(pwrite(region_->ram().file, bytes.data(), bytes.size(), 0),
            static_cast<ssize_t>(bytes.size()));
  Start();
  for (uint64_t page = 0; page < 64; ++page) Read(page);
  EXPECT_EQ(Scan(), Ranges());
  Write(9);
  EXPECT_EQ(Scan(), (Ranges{{9, 10}}));
}

// Reclaim unmaps pages: what was written is still told, what was clean stays so.
TEST_F(WpTrackerTest, PagesThatThePageTableHasLost) {
  Open(RamKind::kTmpfs, 64);
  for (uint64_t page = 0; page < 64; ++page) Write(page);
  Start();
  Write(3);
  ASSERT_EQ(madvise(region_->at(0), 8 * 4096, MADV_DONTNEED), 0);
  EXPECT_EQ(Scan(), (Ranges{{3, 4}}));
  Read(3);
  Read(5);
  EXPECT_EQ(Scan(), Ranges());
  Write(5);
  EXPECT_EQ(Scan(), (Ranges{{5, 6}}));
}

TEST_F(WpTrackerTest, MoreStretchesThanOneCallTells) {
  constexpr uint64_t kPages = 8192;
  Open(RamKind::kTmpfs, kPages);
  Start();
  Ranges wanted;
  for (uint64_t page = 0; page < kPages; page += 3) {
    Write(page);
    wanted.push_back({page, page + 1});
  }
  EXPECT_EQ(Scan(), wanted);
  EXPECT_EQ(Scan(), Ranges());
  // Far apart, so that each is protected by a call of its own.
  Write(0);
  Write(kPages - 1);
  EXPECT_EQ(Scan(), (Ranges{{0, 1}, {kPages - 1, kPages}}));
  EXPECT_EQ(Scan(), Ranges());
}

TEST_F(WpTrackerTest, OneStretchThatSeveralCallsProtect) {
  constexpr uint64_t kPages = 40'000;  // 156 MiB
  Open(RamKind::kTmpfs, kPages);
  Start();
  for (uint64_t page = 5; page < kPages; ++page) Write(page);
  EXPECT_EQ(Scan(), (Ranges{{5, kPages}}));
  EXPECT_EQ(Scan(), Ranges());
  // Near one another, on both sides of where two calls meet.
  const uint64_t first = reinterpret_cast<uintptr_t>(region_->at(0));
  const uint64_t border = ((((first >> 26) + 1) << 26) - first) / 4096;
  Write(border - 1);
  Write(border + 1);
  EXPECT_EQ(Scan(), (Ranges{{border - 1, border}, {border + 1, border + 2}}));
  EXPECT_EQ(Scan(), Ranges());
}

TEST_F(WpTrackerTest, MemoryThatIsMappedAnewIsAnError) {
  Open(RamKind::kTmpfs, 64);
  Start();
  void* anew = mmap(region_->at(16), 16 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                    region_->ram().file, 16 * 4096);
  ASSERT_NE(anew, MAP_FAILED);
  PageSet written(vm_.layout());
  const PageRun all{0, 0, 64};
  absl::Status status = tracker_->Scan({&all, 1}, AfterScan::kClean, &written);
  EXPECT_TRUE(absl::IsAborted(status)) << status;
  EXPECT_THAT(MessageOf(status), HasSubstr("'ram0' anew"));
}

TEST_F(WpTrackerTest, AVmThatNobodyCanTrackIsRefusedWithItsSentence) {
  VmDescription vm;
  vm.untrackable = "device 'x' writes unseen";
  absl::Status status = LocalDirtyTrackerFactory().Open(vm).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_EQ(MessageOf(status), "device 'x' writes unseen");
}

TEST_F(WpTrackerTest, DirectIoNeedsAPausedVm) {
  Open(RamKind::kTmpfs, 8);
  EXPECT_FALSE(tracker_->needs_paused_vm());
  tracker_.reset();
  vm_.direct_io = true;
  auto tracker = LocalDirtyTrackerFactory().Open(vm_);
  ASSERT_TRUE(tracker.ok()) << tracker.status();
  EXPECT_TRUE((*tracker)->needs_paused_vm());
}

// A copy that takes again what each scan names is at the end the memory itself.
void CopyByScans(RamKind kind, uint64_t pages) {
  GuestRegion region(kind, "ram0", pages);
  const uint64_t page_bytes = region.ram().layout.page_size_bytes;
  VmDescription vm;
  vm.regions = {region.ram()};
  auto tracker = LocalDirtyTrackerFactory().Open(vm);
  ASSERT_TRUE(tracker.ok()) << tracker.status();
  ASSERT_TRUE((*tracker)->Start().ok());
  std::vector<std::byte> copy(region.at(0), region.at(pages));
  std::atomic<bool> stop{false};
  std::vector<std::thread> guests;
  for (uint64_t guest = 0; guest < 2; ++guest) {
    guests.emplace_back([&, guest] {
      uint64_t random = guest + 1;
      while (!stop) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        const uint64_t word = (random >> 33) % (page_bytes / 8) / 2 * 2 + guest;
        auto* page = reinterpret_cast<uint64_t*>(region.at((random >> 20) % pages));
        std::atomic_ref(page[word % (page_bytes / 8)]).fetch_add(1, std::memory_order_relaxed);
      }
    });
  }
  auto scan_and_copy = [&] {
    PageSet written(vm.layout());
    const PageRun all{0, 0, pages};
    ASSERT_TRUE((*tracker)->Scan({&all, 1}, AfterScan::kClean, &written).ok());
    written.RangesOf(0).ForEach([&](PageRange range) {
      for (uint64_t word = range.first * page_bytes / 8; word < range.end * page_bytes / 8;
           ++word) {
        auto* from = reinterpret_cast<uint64_t*>(region.at(0)) + word;
        const uint64_t value = std::atomic_ref(*from).load(std::memory_order_relaxed);
        memcpy(copy.data() + word * 8, &value, 8);
      }
    });
  };
  for (int round = 0; round < 100; ++round) scan_and_copy();
  stop = true;
  for (std::thread& guest : guests) guest.join();
  scan_and_copy();
  EXPECT_EQ(memcmp(copy.data(), region.at(0), copy.size()), 0);
}

TEST_F(WpTrackerTest, ACopyByScansIsTheMemory) { CopyByScans(RamKind::kTmpfs, 512); }

TEST_F(WpTrackerTest, ACopyOfHugePagesByScansIsTheMemory) {
  HugePagePool pool(4);
  ASSERT_TRUE(pool.enough());
  CopyByScans(RamKind::kHugetlb, 4);
}

}  // namespace
}  // namespace faultline
