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

absl::Status ResumedDestinationVmm::Ask(bool patient, const std::function<absl::Status()>& ask) {
  MonitorCall call{
      .path = qmp_path_, .cancel = worker_.cancel(), .process = &process_, .on_delay = {}};
  if (patient) {
    call.patience_ms = QmpClient::kGreetingTimeoutMs;
    call.on_delay = [this](const std::string& text) {
      worker_.PostToControl([this, text] {
        if (notice_) notice_(text);
      });
    };
  }
  return AskAgainIfLost(&qmp_, call, [&]() -> absl::Status {
    if (!process_.known()) {
      ASSIGN_OR_RETURN(
          process_, MonitoredProcess::Find(
                        qmp_.get(), patient ? QmpClient::kNoTimeout : QmpClient::kReplyTimeoutMs));
    }
    return ask();
  });
}

// Running a VM that runs already changes nothing: the one before may or may not have got so far.
absl::Status ResumedDestinationVmm::DoTakeOver(bool run) {
  // The last moment at which a monitor of another user can be called.
  RETURN_IF_ERROR(Ask(/*patient=*/true, [] { return absl::OkStatus(); }));
  if (at_handover_) at_handover_();
  return run ? DoSetPaused(false) : absl::OkStatus();
}

absl::Status ResumedDestinationVmm::DoSetPaused(bool paused) {
  return Ask(/*patient=*/true, [&] {
    return qmp_->Execute(paused ? "stop" : "cont", Json::object(), QmpClient::kNoTimeout).status();
  });
}

// What the settings were before is not known any more.
absl::Status ResumedDestinationVmm::DoFinish() {
  return Ask(/*patient=*/false, [this] { return ResetCapabilities(qmp_.get()); });
}

absl::Status ResumedDestinationVmm::DoDiscard() {
  absl::Status status = Ask(/*patient=*/false, [this] { return qmp_->Execute("quit").status(); });
  return absl::IsUnavailable(status) ? absl::OkStatus() : status;
}

}  // namespace faultline
