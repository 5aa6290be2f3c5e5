#include "vmm/callbacks/callback_destination_vmm.h"

#include <fmt/format.h>

#include <utility>

namespace faultline {

CallbackDestinationVmm::CallbackDestinationVmm(Executor* control, DestinationCallbacks callbacks,
                                               VmDescription vm)
    : callbacks_(std::move(callbacks)), vm_(std::move(vm)), pending_(control) {}

void CallbackDestinationVmm::Prepare(VmmDescribed done) { Describe(std::move(done)); }

void CallbackDestinationVmm::DescribeAgain(VmmDescribed done) { Describe(std::move(done)); }

void CallbackDestinationVmm::Load(VmmDone done) {
  device_state_.clear();
  const PendingCalls::Ticket ticket =
      pending_.Hold([done](absl::Status reason) { done(std::move(reason)); });
  loading_ = Loading{std::move(done), ticket};
}

void CallbackDestinationVmm::FeedDeviceState(std::span<const std::byte> bytes) {
  if (!loading_.has_value()) return;  // the load has failed already
  if (bytes.size() <= kDeviceStateBytesMax - device_state_.size()) {
    device_state_.insert(device_state_.end(), bytes.begin(), bytes.end());
    return;
  }
  Loading loading = *std::exchange(loading_, std::nullopt);
  pending_.Forget(loading.ticket);
  Call(
      [] {
        return absl::ResourceExhaustedError(
            fmt::format("the peer sent more than {} bytes of device state", kDeviceStateBytesMax));
      },
      "load the guest's devices", std::move(loading.done));
}

void CallbackDestinationVmm::EndDeviceState() {
  if (!loading_.has_value()) return;
  Loading loading = *std::exchange(loading_, std::nullopt);
  pending_.Forget(loading.ticket);
  Call(
      [this] {
        const std::vector<std::byte> state = std::exchange(device_state_, {});
        return callbacks_.load(state);
      },
      "the hypervisor could not load the guest's devices", std::move(loading.done));
}

void CallbackDestinationVmm::TakeOver(bool run, VmmDone done) {
  Call([this, run] { return callbacks_.take_over(run); },
       "the hypervisor could not take the guest over", std::move(done));
}

void CallbackDestinationVmm::SetPaused(bool paused, VmmDone done) {
  Call(
      [this, paused] {
        return callbacks_.set_paused ? callbacks_.set_paused(paused) : absl::OkStatus();
      },
      paused ? "the hypervisor could not pause the guest"
             : "the hypervisor could not continue the guest",
      std::move(done));
}

void CallbackDestinationVmm::Finish(VmmDone done) {
  Call([this] { return callbacks_.finish(); }, "the hypervisor could not finish", std::move(done));
}

void CallbackDestinationVmm::Discard(VmmDone done) {
  loading_.reset();
  device_state_.clear();
  pending_.CancelAll(absl::CancelledError("the guest is given up on this side"));
  Call([this] { return callbacks_.discard(); }, "the hypervisor could not give the guest up",
       std::move(done));
}

void CallbackDestinationVmm::Describe(VmmDescribed done) {
  pending_.Post([this, done] { done(vm_); }, [done](absl::Status reason) { done(reason); });
}

void CallbackDestinationVmm::Call(std::function<absl::Status()> callback, const char* what,
                                  VmmDone done) {
  pending_.Post([callback = std::move(callback), what, done] { done(Annotate(callback(), what)); },
                done);
}

}  // namespace faultline
