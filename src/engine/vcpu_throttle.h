// Slows the source's VM so that pre-copy gets ahead of what it writes: the VM stands still for a
// share of the time.
#ifndef FAULTLINE_ENGINE_VCPU_THROTTLE_H_
#define FAULTLINE_ENGINE_VCPU_THROTTLE_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "engine/lifetime_guard.h"
#include "seams/executor.h"
#include "seams/vmm.h"

namespace faultline {

// The VM is stopped by SourceVmm::SetPaused, so that whatever ends a pause (a rollback, a freeze,
// the guardian of a process that died) also lets it go. While a share is set the VMM is the
// throttle's: the owner calls Stop before any operation of its own but Rollback, which ends the
// throttle too.
//
// Thread safety: lives on the control executor's thread.
class VcpuThrottle {
 public:
  // Of a VM that is slowed for the first time, how much more at each step, and the most.
  static constexpr double kFirstShare = 0.2;
  static constexpr double kShareStep = 0.1;
  static constexpr double kShareMax = 0.9;
  // A stop and the run after it, if the VMM is quick.
  static constexpr int64_t kPeriodUs = 50'000;

  using Failed = std::function<void(absl::Status)>;

  // `vmm` and `executor` outlive it. `failed` is called once, when the VMM fails or Rollback has
  // cancelled what was under way; the throttle does nothing more then. The VM may be left paused:
  // the owner rolls back.
  VcpuThrottle(SourceVmm* vmm, Executor* executor, Failed failed);

  // Slows the VM by a step more, or begins to.
  void Tighten();
  // From `done` on the VM runs unslowed and the VMM is the owner's. Not while another Stop is
  // under way. After `done`, GoOn slows the VM as before, and Tighten by a step more.
  void Stop(VmmDone done);
  // After Stop; nothing where the VM was never slowed.
  void GoOn();

  // Of the time, 0 to kShareMax; what was set last.
  double share() const { return share_; }
  bool at_most() const { return share_ > kShareMax - kShareStep / 2; }
  // How long the VM was stopped so far.
  int64_t paused_us() const { return paused_ns_ / 1000; }

 private:
  enum class State : uint8_t { kIdle, kRunning, kPausing, kPaused, kContinuing };

  void Pause();
  void Paused(const absl::Status& status);
  void Continue();
  void Continued(const absl::Status& status);
  void End(const absl::Status& status);

  SourceVmm* const vmm_;
  Executor* const executor_;
  Failed failed_;
  double share_ = 0;
  State state_ = State::kIdle;
  VmmDone stopping_;  // of a Stop that is under way
  int64_t paused_at_ns_ = 0;
  int64_t paused_ns_ = 0;
  std::unique_ptr<Timer> timer_;
  LifetimeGuard guard_;
};

}  // namespace faultline

#endif  // FAULTLINE_ENGINE_VCPU_THROTTLE_H_
