// The DirtyTracker contract on the fake.
#include "contract/dirty_tracker_contract.h"

#include "fakes/fake_dirty_tracker.h"

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

std::function<std::unique_ptr<DirtyTrackerHarness>()> MakeFake(bool needs_paused_vm) {
  return [needs_paused_vm] { return std::make_unique<FakeHarness>(needs_paused_vm); };
}

INSTANTIATE_TEST_SUITE_P(All, DirtyTrackerContract,
                         testing::Values(DirtyTrackerCase{"Fake", MakeFake(false)},
                                         DirtyTrackerCase{"FakePaused", MakeFake(true)}),
                         [](const auto& tested) { return tested.param.name; });

}  // namespace
}  // namespace faultline
