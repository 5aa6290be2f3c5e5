#include "fakes/fake_vmm.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace faultline {

size_t FakeVmmCalls::CountOf(const std::string& name) const {
  return static_cast<size_t>(std::count(calls_.begin(), calls_.end(), name));
}

void FakeVmmCalls::Begin(const std::string& name, VmmDone done) {
  FAULTLINE_CHECK(control_->IsCurrent() && done_ == nullptr);
  calls_.push_back(name);
  current_ = name;
  done_ = std::move(done);
  held_ = false;
  if (hook_) hook_(name);
  if (!held_) Arm();
}

void FakeVmmCalls::BeginAfterCancel(const std::string& name, VmmDone done) {
  FAULTLINE_CHECK(control_->IsCurrent());
  timer_.reset();
  if (VmmDone cancelled = std::exchange(done_, nullptr)) {
    control_->Post([alive = std::weak_ptr<bool>(alive_), cancelled = std::move(cancelled), name] {
      if (!alive.expired()) cancelled(absl::CancelledError(name + " came"));
    });
  }
  Begin(name, std::move(done));
}

void FakeVmmCalls::Release() {
  held_ = false;
  if (done_ != nullptr && timer_ == nullptr) Arm();
}

void FakeVmmCalls::Die(absl::Status status) {
  death_ = std::move(status);
  held_ = false;
  control_->Post([this, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired() && busy()) Arm();
  });
}

void FakeVmmCalls::Arm() {
  const FakeVmmStep& step = steps_[current_];
  if (!death_.ok()) {
    timer_ = control_->RunAfter(0, [this] { Finish(death_); });
    return;
  }
  if (step.hangs) return;
  timer_ = control_->RunAfter(step.delay_us, [this, status = step.status] { Finish(status); });
}

void FakeVmmCalls::Finish(const absl::Status& status) {
  timer_.reset();
  if (VmmDone done = std::exchange(done_, nullptr)) done(death_.ok() ? status : death_);
}

void FakeSourceVmm::Prepare(VmmDescribed done) {
  Begin("Prepare", [this, done = std::move(done)](const absl::Status& status) {
    if (!status.ok()) return done(status);
    done(description_);
  });
}

void FakeSourceVmm::SetPaused(bool paused, VmmDone done) {
  Begin(paused ? "Pause" : "Continue", [this, paused, done = std::move(done)](auto status) {
    if (status.ok()) {
      vm_->runs_on_source = !paused && description_.running;
      vm_->Note();
    }
    done(status);
  });
}

void FakeSourceVmm::Freeze(FreezePoint point, DeviceStateSink sink, VmmDescribed done) {
  freeze_point_ = point;
  sink_ = std::move(sink);
  // One that was paused before stopped at a moment that nobody has seen.
  vm_->stopped_at_ns = vm_->runs_on_source ? control()->NowNanos() : 0;
  vm_->runs_on_source = false;
  vm_->Note();
  Begin("Freeze", [this, done = std::move(done)](const absl::Status& status) {
    if (!status.ok()) return done(status);
    sink_(std::span<const std::byte>(device_state_).first(device_state_.size() / 2));
    VmDescription frozen = at_freeze_.value_or(description_);
    frozen.stopped_at_ns = vm_->stopped_at_ns;
    done(frozen);
  });
}

void FakeSourceVmm::SaveDevices(VmmDone done) {
  Begin("SaveDevices", [this, done = std::move(done)](const absl::Status& status) {
    if (status.ok()) {
      sink_(std::span<const std::byte>(device_state_).subspan(device_state_.size() / 2));
    }
    done(status);
  });
}

void FakeSourceVmm::Rollback(VmmDone done) {
  BeginAfterCancel("Rollback", [this, done = std::move(done)](const absl::Status& status) {
    if (status.ok()) {
      if (description_.running && !vm_->runs_on_source) {
        vm_->back_at_work_ns = control()->NowNanos();
      }
      vm_->runs_on_source = description_.running;
      vm_->Note();
    }
    done(status);
  });
}

void FakeSourceVmm::Retire(bool, VmmDone done) { Begin("Retire", std::move(done)); }

void FakeDestinationVmm::Prepare(VmmDescribed done) {
  Begin("Prepare", [this, done = std::move(done)](const absl::Status& status) {
    if (!status.ok()) return done(status);
    done(description_);
  });
}

void FakeDestinationVmm::DescribeAgain(VmmDescribed done) {
  Begin("DescribeAgain", [this, done = std::move(done)](const absl::Status& status) {
    if (!status.ok()) return done(status);
    done(again_.value_or(description_));
  });
}

void FakeDestinationVmm::Load(VmmDone done) {
  loading_ = true;
  Begin("Load", [this, done = std::move(done)](const absl::Status& status) {
    loading_ = false;
    done(status);
  });
  if (StepOf("Load").status.ok()) Hold();
}

void FakeDestinationVmm::FeedDeviceState(std::span<const std::byte> bytes) {
  if (!loading_) return;  // it failed; what was under way still comes
  fed_.insert(fed_.end(), bytes.begin(), bytes.end());
}

void FakeDestinationVmm::EndDeviceState() {
  if (!loading_) return;
  if (load_hook_ == nullptr) return Release();
  load_hook_([this] { control()->Post([this] { Release(); }); });
}

void FakeDestinationVmm::TakeOver(bool run, VmmDone done) {
  FAULTLINE_CHECK(!discarded_);
  taken_over_ = true;
  Begin("TakeOver", [this, run, done = std::move(done)](const absl::Status& status) {
    if (status.ok()) SetRunning(run);
    done(status);
  });
}

void FakeDestinationVmm::SetPaused(bool paused, VmmDone done) {
  FAULTLINE_CHECK(taken_over_);
  Begin(paused ? "Pause" : "Continue", [this, paused, done = std::move(done)](auto status) {
    if (status.ok()) SetRunning(!paused);
    done(status);
  });
}

void FakeDestinationVmm::Finish(VmmDone done) {
  FAULTLINE_CHECK(taken_over_);
  Begin("Finish", std::move(done));
}

void FakeDestinationVmm::Discard(VmmDone done) {
  FAULTLINE_CHECK(!taken_over_);
  loading_ = false;
  BeginAfterCancel("Discard", [this, done = std::move(done)](const absl::Status& status) {
    if (status.ok()) discarded_ = true;
    done(status);
  });
}

void FakeDestinationVmm::SetRunning(bool running) {
  vm_->runs_on_destination = running;
  vm_->Note();
}

}  // namespace faultline
