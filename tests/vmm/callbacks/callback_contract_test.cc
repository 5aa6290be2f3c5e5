// The callback drivers held to the VMM contract, on a program that keeps its part of the C ABI.
#include <gtest/gtest.h>

#include "contract/loop_vmm_world.h"
#include "contract/vmm_contract.h"
#include "vmm/callbacks/callback_destination_vmm.h"
#include "vmm/callbacks/callback_source_vmm.h"

namespace faultline::contract {
namespace {

VmDescription DescribeVm() {
  VmDescription vm;
  vm.regions.push_back({.layout = {"ram", 64 << 20, 4096}});
  vm.running = true;  // until freeze tells
  return vm;
}

// The program that has the VM on one side; control thread.
struct Program {
  bool runs = false;
  bool was_running = false;
  bool gone = false;
  bool broken = false;
  bool save_fails = false;

  absl::Status Answer() const {
    return broken ? absl::InternalError("a thread is stuck") : absl::OkStatus();
  }
};

class CallbackVmmWorld : public LoopVmmWorld {
 public:
  ~CallbackVmmWorld() override {
    RunOnControl([&] {
      source_.reset();
      destination_.reset();
    });
  }

  bool MakeSource(bool running) override {
    RunOnControl([&] {
      from_ = {.runs = running};
      source_ = std::make_unique<CallbackSourceVmm>(&loop_, SourceProgram(), DescribeVm());
    });
    return true;
  }
  bool MakeDestination() override {
    RunOnControl([&] {
      to_ = {};
      destination_ =
          std::make_unique<CallbackDestinationVmm>(&loop_, DestinationProgram(), DescribeVm());
    });
    return true;
  }
  SourceVmm& source() override { return *source_; }
  DestinationVmm& destination() override { return *destination_; }
  void DropSource() override { source_.reset(); }
  void DropDestination() override { destination_.reset(); }

  bool RunsAtSource() override {
    return Ask([&] { return from_.runs; });
  }
  bool RunsAtDestination() override {
    return Ask([&] { return to_.runs; });
  }
  bool DestinationIsGone() override {
    return Ask([&] { return to_.gone; });
  }
  std::string SourceSettings() override { return ""; }

  void BreakSource() override {
    RunOnControl([&] { from_.broken = true; });
  }
  void SpoilSave() override {
    RunOnControl([&] { from_.save_fails = true; });
  }
  std::vector<std::byte> SpoilState(std::vector<std::byte> state) override {
    state.back() ^= std::byte{1};
    return state;
  }
  void CarryMemory() override {}

 private:
  bool Ask(const std::function<bool()>& question) {
    bool answer = false;
    RunOnControl([&] { answer = question(); });
    return answer;
  }

  SourceCallbacks SourceProgram() {
    return {.freeze = [this]() -> absl::StatusOr<bool> {
              RETURN_IF_ERROR(from_.Answer());
              from_.was_running = std::exchange(from_.runs, false);
              return from_.was_running;
            },
            .save =
                [this](const DeviceStateSink& sink) {
                  RETURN_IF_ERROR(from_.Answer());
                  sink(std::span(state_).first(1000));
                  if (from_.save_fails) return absl::InternalError("a device does not answer");
                  sink(std::span(state_).subspan(1000));
                  return absl::OkStatus();
                },
            .rollback =
                [this] {
                  RETURN_IF_ERROR(from_.Answer());
                  from_.runs = from_.was_running;
                  return absl::OkStatus();
                },
            .retire = [this] { return from_.Answer(); }};
  }
  DestinationCallbacks DestinationProgram() {
    return {.load =
                [this](std::span<const std::byte> state) {
                  if (std::equal(state.begin(), state.end(), state_.begin(), state_.end())) {
                    return absl::OkStatus();
                  }
                  return absl::InvalidArgumentError("no such device");
                },
            .take_over = [this](bool run) { return SetRunning(run); },
            .set_paused = [this](bool paused) { return SetRunning(!paused); },
            .finish = [] { return absl::OkStatus(); },
            .discard =
                [this] {
                  to_.gone = true;
                  return SetRunning(false);
                }};
  }
  absl::Status SetRunning(bool running) {
    to_.runs = running;
    return absl::OkStatus();
  }

  const std::vector<std::byte> state_ = std::vector<std::byte>(30'000, std::byte{0x5d});
  // Control thread.
  Program from_;
  Program to_;
  std::unique_ptr<CallbackSourceVmm> source_;
  std::unique_ptr<CallbackDestinationVmm> destination_;
};

const auto kWorlds =
    ::testing::Values(VmmWorldFactory([] { return std::make_unique<CallbackVmmWorld>(); }));

INSTANTIATE_TEST_SUITE_P(Callbacks, SourceVmmContract, kWorlds);

class CallbackPauseTest : public VmmContract {};
INSTANTIATE_TEST_SUITE_P(Callbacks, CallbackPauseTest, kWorlds);

TEST_P(CallbackPauseTest, APauseIsRefusedAndTheGuestRunsOn) {
  ASSERT_TRUE(world_->MakeSource(true));
  Must(SourcePrepare());
  const Result refused = Run(PauseSource(true));
  EXPECT_TRUE(absl::IsUnimplemented(refused.status)) << refused.status;
  EXPECT_TRUE(world_->RunsAtSource());
}

INSTANTIATE_TEST_SUITE_P(Callbacks, DestinationVmmContract, kWorlds);

}  // namespace
}  // namespace faultline::contract
