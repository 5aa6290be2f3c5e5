// Blocking handles on the drivers, for tests that go through a migration step by step.
#ifndef FAULTLINE_TESTS_VMM_QEMU_DRIVER_FIXTURE_H_
#define FAULTLINE_TESTS_VMM_QEMU_DRIVER_FIXTURE_H_

#include <cstddef>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "runtime/loop.h"
#include "support/qemu_process.h"
#include "vmm/qemu/qemu_destination_vmm.h"
#include "vmm/qemu/qemu_source_vmm.h"
#include "vmm/qemu/resumed_destination_vmm.h"

namespace faultline {

// Runs `task` on the loop's thread and waits for it.
inline void RunOn(Loop* loop, const std::function<void()>& task) {
  std::promise<void> ran;
  loop->Post([&] {
    task();
    ran.set_value();
  });
  ran.get_future().wait();
}

// Copies of a status share its text, counted in a library that ThreadSanitizer does not see into.
// What goes to another thread is therefore made anew.
inline absl::Status MadeAnew(const absl::Status& status) {
  return absl::Status(status.code(), status.message());
}
template <typename Value>
absl::StatusOr<Value> MadeAnew(absl::StatusOr<Value> value) {
  if (!value.ok()) return MadeAnew(value.status());
  return value;
}

// Starts an operation on the loop's thread; the future has what its `done` got.
template <typename Result>
std::future<Result> Begin(Loop* loop,
                          const std::function<void(std::function<void(Result)>)>& operation) {
  auto result = std::make_shared<std::promise<Result>>();
  RunOn(loop, [&] { operation([result](Result value) { result->set_value(MadeAnew(value)); }); });
  return result->get_future();
}

class SourceHandle {
 public:
  using Described = absl::StatusOr<VmDescription>;

  SourceHandle(Loop* loop, const QemuSourceOptions& options) : loop_(loop) {
    RunOn(loop_, [&] { vmm_ = std::make_unique<QemuSourceVmm>(options, loop_); });
  }
  ~SourceHandle() {
    RunOn(loop_, [&] { vmm_.reset(); });
  }

  Described Prepare() {
    return Begin<Described>(loop_, [&](auto done) { vmm_->Prepare(done); }).get();
  }
  std::future<absl::Status> BeginSetPaused(bool paused) {
    return Begin<absl::Status>(loop_, [&](auto done) { vmm_->SetPaused(paused, done); });
  }
  absl::Status SetPaused(bool paused) { return BeginSetPaused(paused).get(); }
  std::future<Described> BeginFreeze(FreezePoint point = FreezePoint::kDrained) {
    return Begin<Described>(loop_, [&](auto done) {
      vmm_->Freeze(
          point,
          [this](std::span<const std::byte> bytes) {
            device_state_.insert(device_state_.end(), bytes.begin(), bytes.end());
          },
          done);
    });
  }
  Described Freeze(FreezePoint point = FreezePoint::kDrained) { return BeginFreeze(point).get(); }
  std::future<absl::Status> BeginSaveDevices() {
    return Begin<absl::Status>(loop_, [&](auto done) { vmm_->SaveDevices(done); });
  }
  absl::Status SaveDevices() { return BeginSaveDevices().get(); }
  absl::Status Rollback() {
    return Begin<absl::Status>(loop_, [&](auto done) { vmm_->Rollback(done); }).get();
  }
  absl::Status MayHandOver() {
    absl::Status may;
    RunOn(loop_, [&] { may = MadeAnew(vmm_->MayHandOver()); });
    return may;
  }
  absl::Status StandsStill() {
    absl::Status stands;
    RunOn(loop_, [&] { stands = MadeAnew(vmm_->StandsStill()); });
    return stands;
  }
  absl::Status Retire(bool quit) {
    return Begin<absl::Status>(loop_, [&](auto done) { vmm_->Retire(quit, done); }).get();
  }
  // What the sink got until now.
  std::vector<std::byte> device_state() {
    std::vector<std::byte> copy;
    RunOn(loop_, [&] { copy = device_state_; });
    return copy;
  }

 private:
  Loop* const loop_;
  std::vector<std::byte> device_state_;  // loop's thread
  std::unique_ptr<QemuSourceVmm> vmm_;
};

class DestinationHandle {
 public:
  using Described = absl::StatusOr<VmDescription>;

  DestinationHandle(Loop* loop, const QemuDestinationOptions& options) : loop_(loop) {
    RunOn(loop_, [&] { vmm_ = std::make_unique<QemuDestinationVmm>(options, loop_); });
  }
  // Of a VM that was loaded already.
  DestinationHandle(Loop* loop, const std::string& qmp_path) : loop_(loop) {
    RunOn(loop_, [&] {
      vmm_ = std::make_unique<ResumedDestinationVmm>(qmp_path, std::vector<KeptRegion>(), nullptr,
                                                     loop_);
    });
  }
  ~DestinationHandle() {
    RunOn(loop_, [&] { vmm_.reset(); });
  }

  Described Prepare() {
    return Begin<Described>(loop_, [&](auto done) { vmm_->Prepare(done); }).get();
  }
  Described DescribeAgain() {
    return Begin<Described>(loop_, [&](auto done) { vmm_->DescribeAgain(done); }).get();
  }
  std::future<absl::Status> BeginLoad() {
    return Begin<absl::Status>(loop_, [&](auto done) { vmm_->Load(done); });
  }
  // Feeds `bytes` in pieces, then ends the stream.
  void Feed(const std::vector<std::byte>& bytes) {
    RunOn(loop_, [&] {
      constexpr size_t kPiece = 10000;
      for (size_t at = 0; at < bytes.size(); at += kPiece) {
        vmm_->FeedDeviceState(std::span(bytes).subspan(at, std::min(kPiece, bytes.size() - at)));
      }
      vmm_->EndDeviceState();
    });
  }
  absl::Status Load(const std::vector<std::byte>& bytes) {
    std::future<absl::Status> loaded = BeginLoad();
    Feed(bytes);
    return loaded.get();
  }
  absl::Status TakeOver(bool run) {
    return Begin<absl::Status>(loop_, [&](auto done) { vmm_->TakeOver(run, done); }).get();
  }
  absl::Status SetPaused(bool paused) {
    return Begin<absl::Status>(loop_, [&](auto done) { vmm_->SetPaused(paused, done); }).get();
  }
  absl::Status Finish() {
    return Begin<absl::Status>(loop_, [&](auto done) { vmm_->Finish(done); }).get();
  }
  absl::Status Discard() {
    return Begin<absl::Status>(loop_, [&](auto done) { vmm_->Discard(done); }).get();
  }

 private:
  Loop* const loop_;
  std::unique_ptr<DestinationVmm> vmm_;
};

// The test's own questions, over QEMU's second monitor.
class Inspector {
 public:
  explicit Inspector(const QemuProcess& qemu);
  // "running"; an error's text if QEMU does not answer.
  std::string Status();
  Json Execute(const std::string& command, const Json& arguments = Json::object());
  bool Capability(const std::string& name);
  uint64_t Parameter(const char* name);

 private:
  absl::StatusOr<std::unique_ptr<QmpClient>> qmp_;
};

// Ends this process's connections to the monitor at `path` for both of their ends; how many it had.
int HangUp(const std::string& path);
// Waits up to five seconds for the VM to have `status`; returns the last one seen.
std::string WaitForVmStatus(Inspector* inspector, const std::string& status);

}  // namespace faultline

#endif  // FAULTLINE_TESTS_VMM_QEMU_DRIVER_FIXTURE_H_
