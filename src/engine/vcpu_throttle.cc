#include "engine/vcpu_throttle.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace faultline {

VcpuThrottle::VcpuThrottle(SourceVmm* vmm, Executor* executor, Failed failed)
    : vmm_(vmm), executor_(executor), failed_(std::move(failed)) {}

void VcpuThrottle::Tighten() {
  FAULTLINE_CHECK(stopping_ == nullptr);
  if (failed_ == nullptr) return;  // it has failed before
  share_ = share_ == 0 ? kFirstShare : std::min(share_ + kShareStep, kShareMax);
  if (state_ == State::kIdle) Pause();
}

void VcpuThrottle::Stop(VmmDone done) {
  FAULTLINE_CHECK(stopping_ == nullptr);
  stopping_ = std::move(done);
  switch (state_) {
    case State::kIdle:
    case State::kRunning:
      timer_.reset();
      executor_->Post(guard_.Wrap([this] { End(absl::OkStatus()); }));
      break;
    case State::kPaused:
      Continue();
      break;
    case State::kPausing:
    case State::kContinuing:
      break;
  }
}

void VcpuThrottle::GoOn() {
  FAULTLINE_CHECK(stopping_ == nullptr && state_ == State::kIdle);
  if (failed_ != nullptr && share_ > 0) Pause();
}

void VcpuThrottle::Pause() {
  state_ = State::kPausing;
  paused_at_ns_ = executor_->NowNanos();
  vmm_->SetPaused(true, guard_.Wrap([this](const absl::Status& status) { Paused(status); }));
}

void VcpuThrottle::Paused(const absl::Status& status) {
  if (!status.ok()) return End(status);
  if (stopping_ != nullptr) return Continue();
  state_ = State::kPaused;
  const auto pause_us = static_cast<int64_t>(share_ * kPeriodUs);
  timer_ = executor_->RunAfter(pause_us, [this] { Continue(); });
}

void VcpuThrottle::Continue() {
  timer_.reset();
  state_ = State::kContinuing;
  vmm_->SetPaused(false, guard_.Wrap([this](const absl::Status& status) { Continued(status); }));
}

void VcpuThrottle::Continued(const absl::Status& status) {
  // Aborted: somebody else has let it run earlier. Nobody has read its memory on the strength of
  // this pause.
  if (!status.ok() && !absl::IsAborted(status)) return End(status);
  const int64_t pause_ns = executor_->NowNanos() - paused_at_ns_;
  paused_ns_ += pause_ns;
  if (stopping_ != nullptr) return End(absl::OkStatus());
  state_ = State::kRunning;
  // As long as the pause really was, with what the VMM took for it.
  const double run_us = static_cast<double>(pause_ns) / 1000 * (1 - share_) / share_;
  timer_ = executor_->RunAfter(static_cast<int64_t>(run_us), [this] { Pause(); });
}

void VcpuThrottle::End(const absl::Status& status) {
  state_ = State::kIdle;
  timer_.reset();
  VmmDone stopping = std::exchange(stopping_, nullptr);
  Failed failed = status.ok() ? nullptr : std::exchange(failed_, nullptr);
  if (stopping != nullptr) {
    stopping(status);
  } else if (failed != nullptr) {
    failed(status);
  }
}

}  // namespace faultline
