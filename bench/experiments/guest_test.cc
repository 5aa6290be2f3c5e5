#include "experiments/guest.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

namespace faultline::bench::experiments {
namespace {

class GuestTest : public ::testing::Test {
 protected:
  GuestTest() {
    point_.memory_mib = 1;
    point_.threads = 3;
    point_.write_share = 0.5;
  }

  void MakeRegion() {
    region_ = *Region::Make(point_.pages());
    ASSERT_TRUE(region_->Fill(point_.allocated_pages(), point_.word_repeats).ok());
  }
  static void WorkFor(Guest* guest, int64_t ms) {
    guest->Start();
    std::this_thread::sleep_for(std::chrono::milliseconds(ms));
    guest->Stop();
  }

  Point point_;
  std::unique_ptr<Region> region_;
};

TEST_F(GuestTest, OnTheSourceTheMemoryKeepsItsPattern) {
  MakeRegion();
  Guest guest(point_, region_.get(), GuestPlace::kSource);
  WorkFor(&guest, 50);
  EXPECT_GT(guest.Figures().speed.total(), 100u);
  EXPECT_EQ(guest.Figures().wrong_reads, 0u);
  EXPECT_EQ(region_->CountWrongPages(), 0u);
  EXPECT_GT(guest.CpuSeconds(), 0);
}

TEST_F(GuestTest, OnTheDestinationItsWritesStay) {
  MakeRegion();
  Guest guest(point_, region_.get(), GuestPlace::kDestination);
  WorkFor(&guest, 50);
  EXPECT_EQ(guest.Figures().wrong_reads, 0u);
  EXPECT_EQ(guest.CountWrongPages(), 0u);
  EXPECT_GT(region_->CountWrongPages(), 0u);
}

TEST_F(GuestTest, AWordThatChangedIsAWrongReadAndAWrongPage) {
  MakeRegion();
  point_.write_share = 0;
  for (uint64_t word = 0; word < kWordsPerPage; ++word) region_->words(100)[word] ^= 1;
  Guest guest(point_, region_.get(), GuestPlace::kDestination);
  WorkFor(&guest, 50);
  EXPECT_GT(guest.Figures().wrong_reads, 0u);
  EXPECT_EQ(guest.CountWrongPages(), 1u);
}

TEST_F(GuestTest, AWriteThatIsLostIsAWrongPage) {
  MakeRegion();
  point_.write_share = 1;
  Guest guest(point_, region_.get(), GuestPlace::kDestination);
  WorkFor(&guest, 50);
  ASSERT_TRUE(region_->Fill(1).ok());
  EXPECT_EQ(guest.CountWrongPages(), 1u);
}

TEST_F(GuestTest, KnowsMemoryWhoseWordsRepeat) {
  point_.word_repeats = 3;
  MakeRegion();
  EXPECT_EQ(region_->words(1)[3], region_->words(1)[5]);
  Guest guest(point_, region_.get(), GuestPlace::kDestination);
  WorkFor(&guest, 50);
  EXPECT_EQ(guest.Figures().wrong_reads, 0u);
  EXPECT_EQ(guest.CountWrongPages(), 0u);
}

TEST_F(GuestTest, StaysOnThePagesThatItMayTouch) {
  MakeRegion();
  point_.touched_share = 0.5;
  point_.write_share = 1;
  Guest guest(point_, region_.get(), GuestPlace::kDestination);
  WorkFor(&guest, 50);
  EXPECT_EQ(guest.CountWrongPages(), 0u);
  EXPECT_EQ(region_->CountWrongPages(), point_.touched_pages());
}

TEST_F(GuestTest, MemoryThatWasNeverAllocatedStaysSo) {
  point_.allocated_share = 0.5;
  MakeRegion();
  Guest guest(point_, region_.get(), GuestPlace::kDestination);
  WorkFor(&guest, 20);
  EXPECT_EQ(guest.CountWrongPages(), 0u);
  region_->words(point_.pages() - 1)[0] = 0;
  EXPECT_EQ(guest.CountWrongPages(), 1u);
}

TEST_F(GuestTest, OnDemandOnlyItTouchesTheRestInTheEnd) {
  point_.allocated_share = 0.9;
  point_.touched_share = 0.1;
  point_.push = false;
  point_.demand_only_ms = 20;
  // Nobody serves faults here: a touch of a hole takes memory for it.
  region_ = *Region::Make(point_.pages());
  Guest guest(point_, region_.get(), GuestPlace::kDestination);
  WorkFor(&guest, 200);
  for (uint64_t page = 0; page < point_.pages(); ++page) {
    EXPECT_EQ(region_->IsMissing(page), page >= point_.allocated_pages()) << page;
  }
}

TEST_F(GuestTest, TouchesOfMissingPagesAreCountedOnce) {
  region_ = *Region::Make(point_.pages());
  Guest guest(point_, region_.get(), GuestPlace::kDestination);
  WorkFor(&guest, 100);
  const GuestFigures figures = guest.Figures();
  EXPECT_EQ(figures.waited_ns.size() + figures.arrived_meanwhile, point_.pages());
}

}  // namespace
}  // namespace faultline::bench::experiments
