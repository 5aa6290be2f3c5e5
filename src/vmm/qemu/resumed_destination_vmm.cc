#include "vmm/qemu/resumed_destination_vmm.h"

#include <fmt/format.h>

#include <utility>

#include "vmm/qemu/migration_settings.h"

namespace faultline {
namespace {

absl::Status LoadedAlready() {
  return absl::FailedPreconditionError("the VM's devices were loaded already");
}

}  // namespace

ResumedDestinationVmm::ResumedDestinationVmm(std::string qmp_path, std::vector<KeptRegion> regions,
                                             std::function<void()> at_handover, Executor* control)
    : qmp_path_(std::move(qmp_path)),
      regions_(std::move(regions)),
      at_handover_(std::move(at_handover)),
      worker_(control) {}

void ResumedDestinationVmm::Prepare(VmmDescribed done) {
  worker_.Run<absl::StatusOr<VmDescription>>([this] { return DoPrepare(); }, std::move(done));
}

void ResumedDestinationVmm::DescribeAgain(VmmDescribed done) { Prepare(std::move(done)); }

void ResumedDestinationVmm::Load(VmmDone done) {
  worker_.Run<absl::Status>([] { return LoadedAlready(); }, std::move(done));
}

void ResumedDestinationVmm::FeedDeviceState(std::span<const std::byte>) {}

void ResumedDestinationVmm::EndDeviceState() {}

void ResumedDestinationVmm::TakeOver(bool run, VmmDone done) {
  worker_.Run<absl::Status>([this, run] { return DoTakeOver(run); }, std::move(done));
}

void ResumedDestinationVmm::SetPaused(bool paused, VmmDone done) {
  worker_.Run<absl::Status>([this, paused] { return DoSetPaused(paused); }, std::move(done));
}

void ResumedDestinationVmm::Finish(VmmDone done) {
  worker_.Run<absl::Status>([this] { return DoFinish(); }, std::move(done));
}

void ResumedDestinationVmm::Discard(VmmDone done) {
  worker_.CancelAll();
  worker_.Run<absl::Status>([this] { return DoDiscard(); }, std::move(done));
}

absl::StatusOr<VmDescription> ResumedDestinationVmm::DoPrepare() {
  ASSIGN_OR_RETURN(ram_, OpenKeptRam(regions_, /*writable=*/true));
  return ram_.description;
}

absl::Status ResumedDestinationVmm::Connect() {
  if (qmp_ != nullptr) return absl::OkStatus();
  ASSIGN_OR_RETURN(qmp_, QmpClient::Connect(qmp_path_, worker_.cancel(), QmpClient::kNoTimeout));
  return absl::OkStatus();
}

// Running a VM that runs already changes nothing: the one before may or may not have got so far.
absl::Status ResumedDestinationVmm::DoTakeOver(bool run) {
  RETURN_IF_ERROR(Connect());
  if (at_handover_) at_handover_();
  return run ? DoSetPaused(false) : absl::OkStatus();
}

absl::Status ResumedDestinationVmm::DoSetPaused(bool paused) {
  RETURN_IF_ERROR(Connect());
  return qmp_->Execute(paused ? "stop" : "cont", Json::object(), QmpClient::kNoTimeout).status();
}

// What the settings were before is not known any more.
absl::Status ResumedDestinationVmm::DoFinish() {
  RETURN_IF_ERROR(Connect());
  return ResetCapabilities(qmp_.get());
}

absl::Status ResumedDestinationVmm::DoDiscard() {
  RETURN_IF_ERROR(Connect());
  absl::Status status = qmp_->Execute("quit").status();
  return absl::IsUnavailable(status) ? absl::OkStatus() : status;
}

}  // namespace faultline
