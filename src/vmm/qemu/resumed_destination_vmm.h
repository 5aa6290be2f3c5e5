// A destination VM that was loaded already, for a process that takes the migration up again.
#ifndef FAULTLINE_VMM_QEMU_RESUMED_DESTINATION_VMM_H_
#define FAULTLINE_VMM_QEMU_RESUMED_DESTINATION_VMM_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "seams/executor.h"
#include "seams/journal.h"
#include "seams/vmm.h"
#include "vmm/qemu/kept_ram.h"
#include "vmm/qemu/monitor_call.h"
#include "vmm/qemu/monitored_process.h"
#include "vmm/qemu/operation_worker.h"
#include "vmm/qemu/qmp_client.h"

namespace faultline {

// Prepare does not touch the monitor: QEMU's main loop may wait for a page, and gets it only once
// the memory is served again. TakeOver and SetPaused wait for the monitor as long as it takes;
// Finish has a limit, because its VM waits for no page any more. Loading is refused.
class ResumedDestinationVmm : public DestinationVmm {
 public:
  // `at_handover`: as in QemuDestinationOptions.
  ResumedDestinationVmm(std::string qmp_path, std::vector<KeptRegion> regions,
                        std::function<void()> at_handover, Executor* control);

  void SetNotice(VmmNotice notice) override { notice_ = std::move(notice); }
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
  // On the worker's thread.
  absl::StatusOr<VmDescription> DoPrepare();
  absl::Status DoTakeOver(bool run);
  absl::Status DoSetPaused(bool paused);
  absl::Status DoFinish();
  absl::Status DoDiscard();
  // On a connection of its own if there is none, and anew if it was lost. `patient`: QEMU may wait
  // for a page.
  absl::Status Ask(bool patient, const std::function<absl::Status()>& ask);

  const std::string qmp_path_;
  const std::vector<KeptRegion> regions_;
  const std::function<void()> at_handover_;
  VmmNotice notice_;  // control thread only

  // The worker thread's.
  std::unique_ptr<QmpClient> qmp_;  // from TakeOver, Finish or Discard on
  MonitoredProcess process_;        // then
  KeptRam ram_;

  OperationWorker worker_;  // last: its thread uses all of the above
};

}  // namespace faultline

#endif  // FAULTLINE_VMM_QEMU_RESUMED_DESTINATION_VMM_H_
