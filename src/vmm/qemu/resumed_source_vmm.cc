#include "vmm/qemu/resumed_source_vmm.h"

#include <fmt/format.h>

#include <utility>

#include "vmm/qemu/handed_over.h"
#include "vmm/qemu/json_fields.h"
#include "vmm/qemu/monitor_call.h"
#include "vmm/qemu/vm_lock.h"

namespace faultline {
namespace {

absl::Status HandedOverAlready() {
  return absl::FailedPreconditionError("the VM was handed over to the destination already");
}

}  // namespace

ResumedSourceVmm::ResumedSourceVmm(std::string qmp_path, std::vector<KeptRegion> regions,
                                   std::function<void()> at_handover, Executor* control)
    : qmp_path_(std::move(qmp_path)),
      regions_(std::move(regions)),
      at_handover_(std::move(at_handover)),
      worker_(control) {}

void ResumedSourceVmm::Prepare(VmmDescribed done) {
  worker_.Run<absl::StatusOr<VmDescription>>([this] { return DoPrepare(); }, std::move(done));
}

void ResumedSourceVmm::SetPaused(bool, VmmDone done) {
  worker_.Run<absl::Status>([] { return HandedOverAlready(); }, std::move(done));
}

void ResumedSourceVmm::Freeze(FreezePoint, DeviceStateSink, VmmDescribed done) {
  worker_.Run<absl::StatusOr<VmDescription>>([] { return HandedOverAlready(); }, std::move(done));
}

void ResumedSourceVmm::SaveDevices(VmmDone done) {
  worker_.Run<absl::Status>([] { return HandedOverAlready(); }, std::move(done));
}

void ResumedSourceVmm::Rollback(VmmDone done) {
  worker_.Run<absl::Status>([] { return HandedOverAlready(); }, std::move(done));
}

void ResumedSourceVmm::Retire(bool quit, VmmDone done) {
  worker_.Run<absl::Status>([this, quit] { return DoRetire(quit); }, std::move(done));
}

absl::StatusOr<VmDescription> ResumedSourceVmm::DoPrepare() {
  absl::Status seen = Ask([this] { return SeeThatItStands(); });
  if (absl::IsUnavailable(seen)) qmp_.reset();
  if (!seen.ok() && !absl::IsUnavailable(seen)) return seen;
  ram_ = KeptRam();
  ASSIGN_OR_RETURN(ram_, OpenKeptRam(regions_, /*writable=*/false));
  RETURN_IF_ERROR(LockVm(ram_.files, worker_.cancel()));
  if (at_handover_) at_handover_();
  return ram_.description;
}

absl::Status ResumedSourceVmm::SeeThatItStands() {
  ASSIGN_OR_RETURN(process_, MonitoredProcess::Find(qmp_.get()));
  ASSIGN_OR_RETURN(Json status, qmp_->Execute("query-status"));
  return CheckHandedOverStatus(JsonText(status, "status"));
}

absl::Status ResumedSourceVmm::StandsStill() { return faultline::CheckStandsStill(qmp_.get()); }

absl::Status ResumedSourceVmm::DoRetire(bool quit) {
  if (qmp_ == nullptr || !quit) return absl::OkStatus();
  absl::Status status = Ask([this] { return qmp_->Execute("quit").status(); });
  // One that has ended already has done what is asked.
  return absl::IsUnavailable(status) ? absl::OkStatus() : status;
}

absl::Status ResumedSourceVmm::Ask(const std::function<absl::Status()>& ask) {
  return AskAgainIfLost(
      &qmp_, {.path = qmp_path_, .cancel = worker_.cancel(), .process = &process_, .on_delay = {}},
      ask);
}

}  // namespace faultline
