// Migrations with random delays, cuts and guests: whatever happens, memory is right.

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "engine/migration_rig.h"

namespace faultline {
namespace {

// A guest on the destination that reads, writes and gives up pages, and knows what each must hold.
class RandomGuest {
 public:
  RandomGuest(MigrationRig* rig, std::mt19937_64* random) : rig_(rig), random_(random) {}

  // Does something every few microseconds from now on.
  void Run(int64_t interval_us, int actions) {
    interval_us_ = interval_us;
    actions_left_ = actions;
    Next();
  }
  bool done() const { return actions_left_ == 0 && waiting_ == 0; }
  int reads_checked() const { return reads_checked_; }

  // What the page must hold in the end.
  std::byte Expected(PageId page) const {
    auto own = own_.find(page);
    if (own != own_.end()) return own->second;
    return rig_->source_byte(page);
  }

 private:
  void Next() {
    if (actions_left_ == 0) return;
    timer_ = rig_->destination_threads.demand.clock()->Schedule(
        &guest_thread_, rig_->clock.now_ns() + interval_us_ * 1000, [this] {
          --actions_left_;
          Act();
          Next();
        });
  }

  void Act() {
    const MemoryLayout& layout = rig_->options.layout;
    RegionIndex region = static_cast<RegionIndex>((*random_)() % layout.size());
    PageId page{region, (*random_)() % layout[region].page_count()};
    if (given_up_.contains(page)) return;  // the guest's kernel does not touch it now
    switch ((*random_)() % 8) {
      case 0:
        return GiveUp(page);
      case 1:
      case 2:
      case 3:
        return Write(page);
      default:
        return Touch(page, [this, page](std::byte seen) {
          ++reads_checked_;
          EXPECT_EQ(seen, Expected(page)) << "page " << page.index << " of " << page.region;
        });
    }
  }

  void Touch(PageId page, std::function<void(std::byte)> then) {
    ++waiting_;
    rig_->guest->Touch(page, [this, then](const std::vector<std::byte>& bytes) {
      --waiting_;
      EXPECT_EQ(bytes.front(), bytes.back());  // whole
      then(bytes.front());
    });
  }

  // The value counts from the moment at which the write goes through.
  void Write(PageId page) {
    if (rig_->guest->IsPresent(page)) return WriteNow(page);
    Touch(page, [this, page](std::byte) {
      guest_thread_.Post([this, page] {
        if (!given_up_.contains(page)) WriteNow(page);
      });
    });
  }
  void WriteNow(PageId page) {
    auto value = static_cast<std::byte>(251 + (*random_)() % 5);
    if (rig_->guest->Write(page, value)) own_[page] = value;
  }

  // As a balloon: the page is not used until the discard has returned.
  void GiveUp(PageId page) {
    given_up_.insert(page);
    own_[page] = std::byte{0};
    ++waiting_;
    rig_->guest->DiscardByGuest({page.region, page.index, 1}, [this, page] {
      guest_thread_.Post([this, page] {
        --waiting_;
        given_up_.erase(page);
      });
    });
  }

  MigrationRig* const rig_;
  std::mt19937_64* const random_;
  ManualExecutor guest_thread_{&rig_->clock, "guest"};
  int64_t interval_us_ = 0;
  int actions_left_ = 0;
  int waiting_ = 0;
  int reads_checked_ = 0;
  std::map<PageId, std::byte> own_;  // what the guest wrote or gave up
  std::set<PageId> given_up_;        // and the discard has not returned
  std::unique_ptr<Timer> timer_;
};

TEST(RandomMigrationTest, EveryPageIsTheSourcesOrTheGuests) {
  int reads_checked = 0;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    RigOptions options;
    options.seed = seed;
    MigrationRig rig(options);
    rig.network.set_latency_us(static_cast<int64_t>(random() % 400));
    rig.network.set_bandwidth_bytes_per_second(5'000'000 + random() % 200'000'000);
    rig.network.set_push_window_bytes(4096 * (1 + random() % 40));
    RandomGuest guest(&rig, &random);
    rig.Start();
    ASSERT_TRUE(rig.RunUntil([&] { return rig.vm.runs_on_destination; }));
    if (random() % 4 == 0) rig.guest->FailInstalls(InstallOutcome::kRetry, 5, EAGAIN);
    if (random() % 8 == 0) rig.guest->FailInstalls(InstallOutcome::kNoSpace, 3, ENOSPC);
    guest.Run(static_cast<int64_t>(1 + random() % 100), 200);
    ASSERT_TRUE(rig.RunToEnd());
    rig.ExpectCompleted();
    ASSERT_TRUE(rig.RunUntil([&] { return guest.done(); }));
    reads_checked += guest.reads_checked();
    for (RegionIndex region = 0; region < options.layout.size(); ++region) {
      for (uint64_t index = 0; index < options.layout[region].page_count(); ++index) {
        PageId page{region, index};
        ASSERT_EQ(rig.guest->BytesOf(page)[100], guest.Expected(page))
            << "page " << index << " of region " << region;
      }
    }
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_GT(reads_checked, 10'000);
}

// Cuts, mends, silences and cancels at random moments: the VM has one owner, and the destination
// never runs without its source knowing.
TEST(RandomMigrationTest, OneOwnerWhateverHappens) {
  int handed_over = 0;
  int rolled_back = 0;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    RigOptions options;
    options.seed = seed;
    MigrationRig rig(options);
    rig.limits.silence_post_copy_us = 3'000'000;
    rig.network.set_latency_us(static_cast<int64_t>(random() % 400));
    rig.network.set_bandwidth_bytes_per_second(20'000'000);
    for (const char* call : {"Prepare", "Freeze", "SaveDevices", "Rollback"}) {
      rig.source_vmm.Script(call, {.delay_us = static_cast<int64_t>(random() % 3000)});
    }
    for (const char* call : {"DescribeAgain", "Load", "TakeOver", "Discard", "Finish"}) {
      rig.destination_vmm.Script(call, {.delay_us = static_cast<int64_t>(random() % 3000)});
    }
    rig.Start();
    rig.clock.AdvanceBy(static_cast<int64_t>(random() % 30'000));
    switch (random() % 4) {
      case 0:
        rig.network.Stall();
        break;
      case 1:
        rig.source_threads.control.Post([&] { rig.source->Cancel("Ctrl-C"); });
        [[fallthrough]];
      default:
        rig.network.Cut();
    }
    rig.clock.AdvanceBy(static_cast<int64_t>(random() % 3'000'000));
    rig.network.Mend();
    rig.RunUntil([&] { return rig.source_result.has_value(); });
    ASSERT_TRUE(rig.source_result.has_value());
    rig.clock.AdvanceBy(20'000'000);
    rig.ExpectOneOwner();
    bool to_destination = rig.source_result->owner == VmOwner::kDestination;
    ++(to_destination ? handed_over : rolled_back);
    EXPECT_EQ(rig.vm.runs_on_source, !to_destination);
    if (rig.destination_result.has_value()) {
      EXPECT_EQ(rig.destination_result->owner, rig.source_result->owner);
    } else {
      // Nobody had come to it yet.
      EXPECT_FALSE(to_destination);
      EXPECT_EQ(rig.destination_vmm.CountOf("Load"), 0u);
    }
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_GT(handed_over, 30);
  EXPECT_GT(rolled_back, 30);
}

}  // namespace
}  // namespace faultline
