#include "vmm/callbacks/callback_source_vmm.h"

#include <utility>

namespace faultline {

CallbackSourceVmm::CallbackSourceVmm(Executor* control, SourceCallbacks callbacks, VmDescription vm)
    : callbacks_(std::move(callbacks)), vm_(std::move(vm)), pending_(control) {}

void CallbackSourceVmm::Prepare(VmmDescribed done) {
  pending_.Post([this, done] { done(vm_); }, [done](absl::Status reason) { done(reason); });
}

void CallbackSourceVmm::SetPaused(bool /*paused*/, VmmDone done) {
  pending_.Post(
      [done] {
        done(absl::UnimplementedError(
            "this program's guest cannot be paused before its freeze, so that its writes cannot be "
            "tracked where its kernel or its disks need that: use post-copy"));
      },
      done);
}

void CallbackSourceVmm::Freeze(FreezePoint, DeviceStateSink sink, VmmDescribed done) {
  sink_ = std::move(sink);
  pending_.Post(
      [this, done] {
        freeze_called_ = true;
        const absl::StatusOr<bool> was_running = callbacks_.freeze();
        if (!was_running.ok()) {
          done(Annotate(was_running.status(), "the hypervisor could not freeze the guest"));
          return;
        }
        vm_.running = *was_running;
        done(vm_);
      },
      [done](absl::Status reason) { done(reason); });
}

void CallbackSourceVmm::SaveDevices(VmmDone done) {
  pending_.Post(
      [this, done] {
        done(Annotate(callbacks_.save(sink_), "the hypervisor could not save the guest's devices"));
      },
      done);
}

void CallbackSourceVmm::Rollback(VmmDone done) {
  pending_.CancelAll(absl::CancelledError("the guest goes back to work on the source"));
  pending_.Post(
      [this, done] {
        if (!freeze_called_) {
          done(absl::OkStatus());  // it never stopped
          return;
        }
        absl::Status back = callbacks_.rollback();
        freeze_called_ = !back.ok();  // until it is back, it is no success to be asked again
        done(Annotate(back, "the hypervisor could not run the guest again"));
      },
      done);
}

void CallbackSourceVmm::Retire(bool /*quit*/, VmmDone done) {
  pending_.Post(
      [this, done] {
        done(Annotate(callbacks_.retire(), "the hypervisor could not retire the guest"));
      },
      done);
}

}  // namespace faultline
