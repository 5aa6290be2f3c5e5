#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "fakes/manual_executor.h"
#include "vmm/callbacks/callback_destination_vmm.h"
#include "vmm/callbacks/callback_source_vmm.h"

namespace faultline {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

VmDescription OneRegion() {
  VmDescription vm;
  vm.regions.push_back({.layout = {"ram", 1 << 20, 4096}});
  vm.running = true;
  return vm;
}

std::span<const std::byte> BytesOf(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

class CallbackVmmTest : public testing::Test {
 protected:
  // What the program's callbacks answer.
  absl::StatusOr<bool> freeze_ = true;
  absl::Status save_, load_;

  ManualClock clock_;
  ManualExecutor executor_{&clock_};
  std::vector<std::string> log_;

  absl::Status Log(std::string line, absl::Status status = absl::OkStatus()) {
    log_.push_back(std::move(line));
    return status;
  }
  VmmDone Done(const std::string& name) {
    return [this, name](absl::Status status) {
      log_.push_back(name + " done: " + (status.ok() ? "ok" : MessageOf(status)));
    };
  }
  VmmDescribed Described(const std::string& name) {
    return [this, name](absl::StatusOr<VmDescription> vm) {
      if (!vm.ok()) return static_cast<void>(Log(name + " failed: " + MessageOf(vm.status())));
      log_.push_back(name + ": " + vm->regions[0].layout.name +
                     (vm->running ? " running" : " paused"));
    };
  }
  SourceCallbacks Source() {
    return {.freeze =
                [this] {
                  log_.push_back("freeze");
                  return freeze_;
                },
            .save =
                [this](const DeviceStateSink& sink) {
                  sink(BytesOf("device "));
                  sink(BytesOf("state"));
                  return Log("save", save_);
                },
            .rollback = [this] { return Log("rollback"); },
            .retire = [this] { return Log("retire"); }};
  }
  DestinationCallbacks Destination() {
    return {.load =
                [this](std::span<const std::byte> bytes) {
                  const auto* text = reinterpret_cast<const char*>(bytes.data());
                  return Log("load " + std::string(text, bytes.size()), load_);
                },
            .take_over = [this](bool run) { return Log(run ? "run" : "stay paused"); },
            .set_paused = [this](bool paused) { return Log(paused ? "pause" : "continue"); },
            .finish = [this] { return Log("finish"); },
            .discard = [this] { return Log("discard"); }};
  }
};

TEST_F(CallbackVmmTest, SourceGoesThroughAMigration) {
  CallbackSourceVmm vmm(&executor_, Source(), OneRegion());
  std::string state;
  vmm.Prepare(Described("prepare"));
  EXPECT_THAT(log_, IsEmpty()) << "must not call back inside the call";
  clock_.RunUntilIdle();
  vmm.Freeze(
      FreezePoint::kSaving,
      [&state](std::span<const std::byte> bytes) {
        state.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      },
      Described("freeze"));
  clock_.RunUntilIdle();
  vmm.SaveDevices(Done("save"));
  clock_.RunUntilIdle();
  vmm.Retire(true, Done("retire"));
  clock_.RunUntilIdle();
  EXPECT_THAT(log_, ElementsAre("prepare: ram running", "freeze", "freeze: ram running", "save",
                                "save done: ok", "retire", "retire done: ok"));
  EXPECT_EQ(state, "device state");
}

TEST_F(CallbackVmmTest, SourceThatWasPausedSaysSo) {
  freeze_ = false;
  CallbackSourceVmm vmm(&executor_, Source(), OneRegion());
  vmm.Freeze(
      FreezePoint::kSaving, [](std::span<const std::byte>) {}, Described("freeze"));
  clock_.RunUntilIdle();
  EXPECT_THAT(log_, ElementsAre("freeze", "freeze: ram paused"));
}

TEST_F(CallbackVmmTest, SourceThatNeverFrozeIsNotRolledBack) {
  CallbackSourceVmm vmm(&executor_, Source(), OneRegion());
  vmm.Freeze(
      FreezePoint::kSaving, [](std::span<const std::byte>) {}, Described("freeze"));
  vmm.Rollback(Done("rollback"));
  clock_.RunUntilIdle();
  EXPECT_THAT(log_, ElementsAre(HasSubstr("freeze failed: the guest goes back to work"),
                                "rollback done: ok"));
}

TEST_F(CallbackVmmTest, SourceIsRolledBackOnceAfterAFailedFreeze) {
  freeze_ = absl::InternalError("a thread does not stop");
  CallbackSourceVmm vmm(&executor_, Source(), OneRegion());
  vmm.Freeze(
      FreezePoint::kSaving, [](std::span<const std::byte>) {}, Described("freeze"));
  clock_.RunUntilIdle();
  vmm.Rollback(Done("rollback"));
  clock_.RunUntilIdle();
  vmm.Rollback(Done("again"));
  clock_.RunUntilIdle();
  EXPECT_THAT(log_, ElementsAre("freeze",
                                "freeze failed: the hypervisor could not freeze the guest: a "
                                "thread does not stop",
                                "rollback", "rollback done: ok", "again done: ok"));
}

TEST_F(CallbackVmmTest, DestinationLoadsAllStateAtOnceAndTakesOver) {
  CallbackDestinationVmm vmm(&executor_, Destination(), OneRegion());
  vmm.Prepare(Described("prepare"));
  vmm.DescribeAgain(Described("again"));
  vmm.Load(Done("load"));
  vmm.FeedDeviceState(BytesOf("device "));
  vmm.FeedDeviceState(BytesOf("state"));
  clock_.RunUntilIdle();
  EXPECT_THAT(log_, ElementsAre("prepare: ram running", "again: ram running"));
  vmm.EndDeviceState();
  clock_.RunUntilIdle();
  vmm.TakeOver(true, Done("take over"));
  vmm.SetPaused(true, Done("pause"));
  vmm.Finish(Done("finish"));
  clock_.RunUntilIdle();
  log_.erase(log_.begin(), log_.begin() + 2);
  EXPECT_THAT(log_, ElementsAre("load device state", "load done: ok", "run", "take over done: ok",
                                "pause", "pause done: ok", "finish", "finish done: ok"));
}

TEST_F(CallbackVmmTest, DestinationDiscardsWhileItLoads) {
  CallbackDestinationVmm vmm(&executor_, Destination(), OneRegion());
  vmm.Load(Done("load"));
  vmm.FeedDeviceState(BytesOf("device"));
  vmm.Discard(Done("discard"));
  vmm.EndDeviceState();  // came too late
  clock_.RunUntilIdle();
  EXPECT_THAT(log_, ElementsAre("load done: the guest is given up on this side", "discard",
                                "discard done: ok"));
}

TEST_F(CallbackVmmTest, DestinationPassesALoadsReasonOn) {
  load_ = absl::InvalidArgumentError("no such device");
  CallbackDestinationVmm vmm(&executor_, Destination(), OneRegion());
  vmm.Load(Done("load"));
  vmm.EndDeviceState();
  clock_.RunUntilIdle();
  EXPECT_THAT(log_, ElementsAre("load ",
                                "load done: the hypervisor could not load the guest's "
                                "devices: no such device"));
}

TEST_F(CallbackVmmTest, DestinationRefusesEndlessDeviceState) {
  CallbackDestinationVmm vmm(&executor_, Destination(), OneRegion());
  const std::vector<std::byte> piece(CallbackDestinationVmm::kDeviceStateBytesMax / 2 + 1);
  vmm.Load(Done("load"));
  vmm.FeedDeviceState(piece);
  vmm.FeedDeviceState(piece);
  vmm.FeedDeviceState(piece);
  vmm.EndDeviceState();
  clock_.RunUntilIdle();
  EXPECT_THAT(log_, ElementsAre(HasSubstr("bytes of device state")));
}

TEST_F(CallbackVmmTest, DestinationWithoutPauseGoesOn) {
  DestinationCallbacks callbacks = Destination();
  callbacks.set_paused = nullptr;
  CallbackDestinationVmm vmm(&executor_, callbacks, OneRegion());
  vmm.SetPaused(true, Done("pause"));
  clock_.RunUntilIdle();
  EXPECT_THAT(log_, ElementsAre("pause done: ok"));
}

}  // namespace
}  // namespace faultline
