// The DirtyTracker contract on each kind of RAM of this process, and on the fake.
#include "contract/dirty_tracker_contract.h"

#include "fakes/fake_dirty_tracker.h"
#include "memory/dirty_tracker_factories.h"
#include "memory/guest_mapping.h"
#include "memory/vm_flags.h"

namespace faultline {
namespace {

class FakeHarness : public DirtyTrackerHarness {
 public:
  explicit FakeHarness(bool needs_paused_vm)
      : tracker_(std::make_unique<FakeDirtyTracker>(&writes_, needs_paused_vm)) {}

  const MemoryLayout& layout() override { return layout_; }
  DirtyTracker& tracker() override { return *tracker_; }
  void DropTracker() override { tracker_.reset(); }
  void Write(PageId page) override { writes_.Write(page); }
  void Read(PageId) override {}
  bool IsTracked() override { return writes_.tracked(); }

 private:
  const MemoryLayout layout_{{"ram0", 64 * 4096, 4096}, {"ram1", 8 * 4096, 4096}};
  FakeWrites writes_{layout_};
  std::unique_ptr<DirtyTracker> tracker_;
};

// The guest is this process.
class LocalHarness : public DirtyTrackerHarness {
 public:
  explicit LocalHarness(RamKind kind) {
    const uint64_t pages = kind == RamKind::kHugetlb ? kTestHugeRegionPages : kTestRegionPages;
    if (kind == RamKind::kHugetlb) {
      pool_ = std::make_unique<HugePagePool>(2 * pages);
      EXPECT_TRUE(pool_->enough());
    }
    VmDescription vm;
    for (const char* name : {"ram0", "ram1"}) {
      regions_.push_back(std::make_unique<GuestRegion>(kind, name, pages));
      vm.regions.push_back(regions_.back()->ram());
    }
    layout_ = vm.layout();
    LocalDirtyTrackerFactory factory;
    absl::StatusOr<std::unique_ptr<DirtyTracker>> tracker = factory.Open(vm);
    EXPECT_TRUE(tracker.ok()) << tracker.status();
    tracker_ = std::move(*tracker);
  }

  const MemoryLayout& layout() override { return layout_; }
  DirtyTracker& tracker() override { return *tracker_; }
  void DropTracker() override { tracker_.reset(); }
  void Write(PageId page) override {
    auto* byte = reinterpret_cast<volatile uint8_t*>(regions_[page.region]->at(page.index));
    byte[7] = static_cast<uint8_t>(byte[7] + 1);
  }
  void Read(PageId page) override {
    static_cast<void>(*reinterpret_cast<volatile uint8_t*>(regions_[page.region]->at(page.index)));
  }
  bool IsTracked() override {
    return std::any_of(regions_.begin(), regions_.end(), [](const auto& region) {
      return HasVmFlag(getpid(), region->ram().host_address, "uw");
    });
  }

 private:
  std::unique_ptr<HugePagePool> pool_;
  std::vector<std::unique_ptr<GuestRegion>> regions_;
  MemoryLayout layout_;
  std::unique_ptr<DirtyTracker> tracker_;
};

std::function<std::unique_ptr<DirtyTrackerHarness>()> MakeLocal(RamKind kind) {
  return [kind] { return std::make_unique<LocalHarness>(kind); };
}

std::function<std::unique_ptr<DirtyTrackerHarness>()> MakeFake(bool needs_paused_vm) {
  return [needs_paused_vm] { return std::make_unique<FakeHarness>(needs_paused_vm); };
}

INSTANTIATE_TEST_SUITE_P(All, DirtyTrackerContract,
                         testing::Values(DirtyTrackerCase{"Tmpfs", MakeLocal(RamKind::kTmpfs)},
                                         DirtyTrackerCase{"Memfd", MakeLocal(RamKind::kMemfd)},
                                         DirtyTrackerCase{"Anonymous",
                                                          MakeLocal(RamKind::kAnonymous)},
                                         DirtyTrackerCase{"Hugetlb", MakeLocal(RamKind::kHugetlb)},
                                         DirtyTrackerCase{"Fake", MakeFake(false)},
                                         DirtyTrackerCase{"FakePaused", MakeFake(true)}),
                         [](const auto& tested) { return tested.param.name; });

}  // namespace
}  // namespace faultline
