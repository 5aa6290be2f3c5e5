// A source VM that is a program's own: its callbacks do what QEMU's monitor does elsewhere.
#ifndef FAULTLINE_VMM_CALLBACKS_CALLBACK_SOURCE_VMM_H_
#define FAULTLINE_VMM_CALLBACKS_CALLBACK_SOURCE_VMM_H_

#include <functional>

#include "seams/vmm.h"
#include "vmm/callbacks/pending_calls.h"

namespace faultline {

// Each is called on the control executor's thread, never inside a call of the driver's user.
struct SourceCallbacks {
  std::function<absl::StatusOr<bool>()> freeze;  // true: the guest was running
  std::function<absl::Status(const DeviceStateSink&)> save;
  std::function<absl::Status()> rollback;
  std::function<absl::Status()> retire;
};

// The regions of `vm` stay the same as long as the driver lives.
class CallbackSourceVmm : public SourceVmm {
 public:
  // `control` outlives the driver.
  CallbackSourceVmm(Executor* control, SourceCallbacks callbacks, VmDescription vm);

  void Prepare(VmmDescribed done) override;
  // Refused: there is no callback for it.
  void SetPaused(bool paused, VmmDone done) override;
  void Freeze(FreezePoint point, DeviceStateSink sink, VmmDescribed done) override;
  void SaveDevices(VmmDone done) override;
  void Rollback(VmmDone done) override;
  // There is no process to end: `quit` makes no difference.
  void Retire(bool quit, VmmDone done) override;

 private:
  const SourceCallbacks callbacks_;
  VmDescription vm_;
  DeviceStateSink sink_;
  bool freeze_called_ = false;
  PendingCalls pending_;
};

}  // namespace faultline

#endif  // FAULTLINE_VMM_CALLBACKS_CALLBACK_SOURCE_VMM_H_
