// Both ends' hypervisors, scripted: each call takes as long as the test says and ends as it says.
#ifndef FAULTLINE_TESTS_FAKES_FAKE_VMM_H_
#define FAULTLINE_TESTS_FAKES_FAKE_VMM_H_

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "fakes/manual_executor.h"
#include "seams/vmm.h"

namespace faultline {

// Where the VM runs. Both fakes of one VM share it.
struct FakeVm {
  bool runs_on_source = true;
  bool runs_on_destination = false;
  bool ran_on_both = false;         // ever
  int64_t stopped_at_ns = 0;        // when Freeze last stopped it; 0: it was paused before
  int64_t back_at_work_ns = 0;      // when it last began to run there again
  std::function<void()> on_change;  // called after it began or ceased to run somewhere
  void Note() {
    ran_on_both = ran_on_both || (runs_on_source && runs_on_destination);
    if (on_change) on_change();
  }
};

// What one call does.
struct FakeVmmStep {
  int64_t delay_us = 200;
  absl::Status status;  // what its `done` gets
  bool hangs = false;   // `done` waits for Rollback or Discard
};

// One operation at a time, as the seam says; a second one breaks an invariant.
class FakeVmmCalls {
 public:
  explicit FakeVmmCalls(ManualExecutor* control) : control_(control) {}

  // The next calls of `name` ("Freeze") do `step`.
  void Script(const std::string& name, FakeVmmStep step) { steps_[name] = std::move(step); }
  // Called when `name` begins.
  void OnCall(std::function<void(const std::string& name)> hook) { hook_ = std::move(hook); }
  // From any task. The VMM's process is gone: what is under way and every later call ends with
  // `status`.
  void Die(absl::Status status);
  const std::vector<std::string>& calls() const { return calls_; }
  size_t CountOf(const std::string& name) const;
  // What has begun and not ended; empty if nothing.
  std::string under_way() const { return busy() ? current_ : std::string(); }

 protected:
  void Begin(const std::string& name, VmmDone done);
  // Ends what is under way with Cancelled, then begins `name`.
  void BeginAfterCancel(const std::string& name, VmmDone done);
  // Not until Release: the operation waits for more than time.
  void Hold() {
    held_ = true;
    timer_.reset();
  }
  void Release();
  bool busy() const { return done_ != nullptr; }
  ManualExecutor* control() const { return control_; }
  const FakeVmmStep& StepOf(const std::string& name) { return steps_[name]; }

 private:
  void Finish(const absl::Status& status);
  void Arm();

  ManualExecutor* const control_;
  std::map<std::string, FakeVmmStep> steps_;
  std::function<void(const std::string&)> hook_;
  std::vector<std::string> calls_;
  std::string current_;
  VmmDone done_;
  bool held_ = false;
  absl::Status death_;
  std::unique_ptr<Timer> timer_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // posted tasks hold it weakly
};

// The VM stops when Freeze begins and half of its state flows then; the rest flows in SaveDevices.
class FakeSourceVmm : public SourceVmm, public FakeVmmCalls {
 public:
  FakeSourceVmm(ManualExecutor* control, FakeVm* vm, VmDescription description)
      : FakeVmmCalls(control), vm_(vm), description_(std::move(description)) {
    vm_->runs_on_source = description_.running;
  }

  // What Freeze describes, where memory was plugged since Prepare.
  void set_layout_at_freeze(VmDescription description) { at_freeze_ = std::move(description); }
  void set_stands_still(absl::Status status) { stands_still_ = std::move(status); }
  void set_may_hand_over(absl::Status status) { may_hand_over_ = std::move(status); }
  void set_device_state(std::vector<std::byte> bytes) { device_state_ = std::move(bytes); }
  const std::vector<std::byte>& device_state() const { return device_state_; }
  // Of the last Freeze.
  FreezePoint freeze_point() const { return freeze_point_; }

  void Prepare(VmmDescribed done) override;
  void SetPaused(bool paused, VmmDone done) override;
  void Freeze(FreezePoint point, DeviceStateSink sink, VmmDescribed done) override;
  void SaveDevices(VmmDone done) override;
  void Rollback(VmmDone done) override;
  absl::Status MayHandOver() override { return may_hand_over_; }
  absl::Status StandsStill() override { return stands_still_; }
  void Retire(bool quit, VmmDone done) override;

 private:
  FakeVm* const vm_;
  const VmDescription description_;
  std::optional<VmDescription> at_freeze_;
  absl::Status may_hand_over_;
  absl::Status stands_still_;
  std::vector<std::byte> device_state_ = std::vector<std::byte>(3000, std::byte{0x5d});
  FreezePoint freeze_point_ = FreezePoint::kDrained;
  DeviceStateSink sink_;
};

class FakeDestinationVmm : public DestinationVmm, public FakeVmmCalls {
 public:
  FakeDestinationVmm(ManualExecutor* control, FakeVm* vm, VmDescription description)
      : FakeVmmCalls(control), vm_(vm), description_(std::move(description)) {}

  void set_layout_again(VmDescription description) { again_ = std::move(description); }
  // Called when the whole state has come; loading goes on when its argument is called, on any
  // thread (a device that reads guest memory).
  void set_load_hook(std::function<void(std::function<void()> go_on)> hook) {
    load_hook_ = std::move(hook);
  }
  // Another process has taken the VM over and died.
  void set_taken_over() { taken_over_ = true; }
  const std::vector<std::byte>& fed() const { return fed_; }
  bool discarded() const { return discarded_; }

  void Prepare(VmmDescribed done) override;
  void DescribeAgain(VmmDescribed done) override;
  void Load(VmmDone done) override;
  void FeedDeviceState(std::span<const std::byte> bytes) override;
  void EndDeviceState() override;
  void TakeOver(bool run, VmmDone done) override;
  void SetPaused(bool paused, VmmDone done) override;
  void Finish(VmmDone done) override;
  void Discard(VmmDone done) override;

 private:
  void SetRunning(bool running);

  FakeVm* const vm_;
  const VmDescription description_;
  std::optional<VmDescription> again_;
  std::function<void(std::function<void()>)> load_hook_;
  std::vector<std::byte> fed_;
  bool loading_ = false;
  bool taken_over_ = false;
  bool discarded_ = false;
};

}  // namespace faultline

#endif  // FAULTLINE_TESTS_FAKES_FAKE_VMM_H_
