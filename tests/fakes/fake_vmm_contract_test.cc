// The fake hypervisors held to the same contract as the real drivers.
#include <gtest/gtest.h>

#include "contract/vmm_contract.h"
#include "fakes/fake_vmm.h"

namespace faultline::contract {
namespace {

VmDescription DescribeVm(bool running) {
  VmDescription vm;
  vm.regions.push_back({.layout = {"ram", 64 << 20, 4096}});
  vm.regions.push_back({.layout = {"huge", 8 << 20, 2 << 20}});
  vm.running = running;
  return vm;
}

class FakeVmmWorld : public VmmWorld {
 public:
  bool MakeSource(bool running) override {
    source_ = std::make_unique<FakeSourceVmm>(&control_, &vm_, DescribeVm(running));
    return true;
  }
  bool MakeDestination() override {
    destination_ = std::make_unique<FakeDestinationVmm>(&control_, &vm_, DescribeVm(false));
    return true;
  }
  SourceVmm& source() override { return *source_; }
  DestinationVmm& destination() override { return *destination_; }
  void DropSource() override { source_.reset(); }
  void DropDestination() override { destination_.reset(); }

  const Executor& control() override { return control_; }
  bool OnControl() override { return clock_.current() == &control_; }
  void RunOnControl(const Task& task) override {
    bool ran = false;
    control_.Post([&] {
      task();
      ran = true;
    });
    clock_.RunUntil([&] { return ran; });
  }
  bool WaitUntil(const std::function<bool()>& done) override { return clock_.RunUntil(done); }
  void Pass(int64_t duration_us) override { clock_.AdvanceBy(duration_us); }

  bool RunsAtSource() override { return vm_.runs_on_source; }
  bool RunsAtDestination() override { return vm_.runs_on_destination; }
  bool DestinationIsGone() override { return destination_->discarded(); }
  std::string SourceSettings() override { return ""; }

  void BreakSource() override {
    for (const char* name : {"Prepare", "Freeze", "SaveDevices", "Rollback", "Retire"}) {
      source_->Script(name, {.status = absl::UnavailableError("it died")});
    }
  }
  void SpoilSave() override {
    source_->Script("SaveDevices", {.status = absl::AbortedError("a device does not answer")});
  }
  std::vector<std::byte> SpoilState(std::vector<std::byte> state) override {
    destination_->Script("Load", {.status = absl::AbortedError("no such device")});
    return state;
  }
  void CarryMemory() override {}

 private:
  ManualClock clock_;
  ManualExecutor control_{&clock_};
  FakeVm vm_;
  std::unique_ptr<FakeSourceVmm> source_;
  std::unique_ptr<FakeDestinationVmm> destination_;
};

const auto kWorlds =
    ::testing::Values(VmmWorldFactory([] { return std::make_unique<FakeVmmWorld>(); }));

INSTANTIATE_TEST_SUITE_P(Fake, SourceVmmContract, kWorlds);
INSTANTIATE_TEST_SUITE_P(Fake, SourceVmmPauseContract, kWorlds);
INSTANTIATE_TEST_SUITE_P(Fake, DestinationVmmContract, kWorlds);

}  // namespace
}  // namespace faultline::contract
