#include "vmm/qemu/handed_over.h"

#include <fmt/format.h>

namespace faultline {
namespace {

absl::Status RanAfterTheHandoverError() {
  return absl::FailedPreconditionError(
      "the VM runs here as well: somebody started it by hand ('cont') after it was handed over. "
      "Its memory here is no longer what the destination needs; stop it at once, and see which "
      "of the two goes on");
}

}  // namespace

bool WasLetRun(QmpClient* qmp) {
  return qmp->WaitForEvent([](const QmpEvent& event) { return event.name == "RESUME"; }, 0, "")
      .ok();
}

absl::Status CheckStandsStill(QmpClient* qmp) {
  return qmp != nullptr && WasLetRun(qmp) ? RanAfterTheHandoverError() : absl::OkStatus();
}

absl::Status CheckHandedOverStatus(const std::string& status) {
  if (status == "postmigrate") return absl::OkStatus();
  if (status == "running") return RanAfterTheHandoverError();
  return absl::FailedPreconditionError(fmt::format(
      "the VM has run here since it was handed over ('cont' by hand; its status is '{}', where a "
      "migration leaves 'postmigrate'), so its memory here is no longer what the destination "
      "needs: end it, and see on the destination what 'faultline abandon' can save",
      status));
}

}  // namespace faultline
