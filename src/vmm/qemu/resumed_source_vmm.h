// A source VM that was handed over already, for a process that takes the migration up again: its
// memory is read from its RAM files, whether its QEMU is there still or not.
#ifndef FAULTLINE_VMM_QEMU_RESUMED_SOURCE_VMM_H_
#define FAULTLINE_VMM_QEMU_RESUMED_SOURCE_VMM_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "seams/executor.h"
#include "seams/journal.h"
#include "seams/vmm.h"
#include "vmm/qemu/kept_ram.h"
#include "vmm/qemu/monitored_process.h"
#include "vmm/qemu/operation_worker.h"
#include "vmm/qemu/qmp_client.h"

namespace faultline {

// Prepare and Retire only; the other operations are refused, because the VM is the destination's.
// Prepare also refuses a VM that runs here or has run, because its memory changes under the
// transfer, and one whose monitor cannot be asked.
class ResumedSourceVmm : public SourceVmm {
 public:
  // `at_handover`: as in QemuSourceOptions; here once Prepare has opened all that it needs.
  ResumedSourceVmm(std::string qmp_path, std::vector<KeptRegion> regions,
                   std::function<void()> at_handover, Executor* control);

  void Prepare(VmmDescribed done) override;
  void SetPaused(bool paused, VmmDone done) override;
  void Freeze(FreezePoint point, DeviceStateSink sink, VmmDescribed done) override;
  void SaveDevices(VmmDone done) override;
  void Rollback(VmmDone done) override;
  absl::Status StandsStill() override;
  // Settings that a QEMU had before the migration are not known any more, and stay as they are.
  void Retire(bool quit, VmmDone done) override;

 private:
  // On the worker's thread.
  absl::StatusOr<VmDescription> DoPrepare();
  absl::Status SeeThatItStands();
  absl::Status DoRetire(bool quit);
  // On a new connection if there is none; Unavailable if QEMU has ended.
  absl::Status Ask(const std::function<absl::Status()>& ask);

  const std::string qmp_path_;
  const std::vector<KeptRegion> regions_;
  const std::function<void()> at_handover_;

  // The worker thread's.
  std::unique_ptr<QmpClient> qmp_;  // null if QEMU is gone
  MonitoredProcess process_;
  KeptRam ram_;

  OperationWorker worker_;  // last: its thread uses all of the above
};

}  // namespace faultline

#endif  // FAULTLINE_VMM_QEMU_RESUMED_SOURCE_VMM_H_
