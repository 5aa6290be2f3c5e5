// A destination VM that is a program's own, driven by callbacks.
#ifndef FAULTLINE_VMM_CALLBACKS_CALLBACK_DESTINATION_VMM_H_
#define FAULTLINE_VMM_CALLBACKS_CALLBACK_DESTINATION_VMM_H_

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "seams/vmm.h"
#include "vmm/callbacks/pending_calls.h"

namespace faultline {

// Each is called on the control executor's thread, never inside a call of the driver's user.
struct DestinationCallbacks {
  std::function<absl::Status(std::span<const std::byte>)> load;  // all of the device state
  std::function<absl::Status(bool run)> take_over;
  std::function<absl::Status(bool paused)> set_paused;  // may be empty
  std::function<absl::Status()> finish;
  std::function<absl::Status()> discard;
};

// Device state is collected and loaded at once. The regions of `vm` stay the same as long as the
// driver lives.
class CallbackDestinationVmm : public DestinationVmm {
 public:
  // More device state than this fails the load: a peer must not fill this host's memory.
  static constexpr size_t kDeviceStateBytesMax = size_t{256} << 20;

  // `control` outlives the driver.
  CallbackDestinationVmm(Executor* control, DestinationCallbacks callbacks, VmDescription vm);

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
  // A load that waits for device state.
  struct Loading {
    VmmDone done;
    PendingCalls::Ticket ticket = 0;
  };

  void Describe(VmmDescribed done);
  // Calls `callback` later and hands what it returned on, with `what` before an error.
  void Call(std::function<absl::Status()> callback, const char* what, VmmDone done);

  const DestinationCallbacks callbacks_;
  const VmDescription vm_;
  std::optional<Loading> loading_;
  std::vector<std::byte> device_state_;
  PendingCalls pending_;
};

}  // namespace faultline

#endif  // FAULTLINE_VMM_CALLBACKS_CALLBACK_DESTINATION_VMM_H_
