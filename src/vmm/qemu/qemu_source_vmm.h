// A source VM in a stock QEMU, driven through its monitor.
#ifndef FAULTLINE_VMM_QEMU_QEMU_SOURCE_VMM_H_
#define FAULTLINE_VMM_QEMU_QEMU_SOURCE_VMM_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "seams/executor.h"
#include "seams/vmm.h"
#include "vmm/qemu/device_relay.h"
#include "vmm/qemu/guardian.h"
#include "vmm/qemu/monitored_process.h"
#include "vmm/qemu/operation_worker.h"
#include "vmm/qemu/qmp_client.h"
#include "vmm/qemu/ram_discovery.h"
#include "vmm/qemu/source_rollback.h"

namespace faultline {

struct QemuSourceOptions {
  std::string qmp_path;
  // The migration's journal, which exists when Prepare is called; empty: no guardian.
  std::string journal_path;
  // Called once the VM is the destination's, on the thread that talks to QEMU: from then on it does
  // so over the connection that it has. May be empty.
  std::function<void()> at_handover;
};

// Prepare starts the guardian. It stands down when Rollback or Retire succeeded; if this object is
// destroyed before, the guardian decides by the journal. While a guardian was asked for, Freeze,
// SaveDevices and MayHandOver fail if it has died.
class QemuSourceVmm : public SourceVmm {
 public:
  QemuSourceVmm(QemuSourceOptions options, Executor* control);
  ~QemuSourceVmm() override;

  void Prepare(VmmDescribed done) override;
  // Stopped by `stop`, which drains the disks and flushes them. A stop that somebody else asks for
  // during a pause cannot be told from it: the VM goes on. Aborted: the VM sleeps, has shut down or
  // the like, and is left alone.
  void SetPaused(bool paused, VmmDone done) override;
  void Freeze(FreezePoint point, DeviceStateSink sink, VmmDescribed done) override;
  void SaveDevices(VmmDone done) override;
  void Rollback(VmmDone done) override;
  absl::Status MayHandOver() override;
  void HandedOver() override;
  absl::Status StandsStill() override;
  void Retire(bool quit, VmmDone done) override;

 private:
  // On the worker's thread.
  absl::StatusOr<VmDescription> DoPrepare();
  absl::Status DoPause();
  absl::Status DoContinue();
  absl::StatusOr<VmDescription> DoFreeze(FreezePoint point);
  absl::Status DoSaveDevices();
  absl::Status DoRollback();
  absl::Status DoRetire(bool quit);

  absl::Status StartGuardian();
  absl::Status CheckGuardian() const;
  // What a rollback has to do from now on, for this process and for the guardian.
  absl::Status PlanToRun(bool run);
  absl::Status StartStream();
  absl::Status CheckStandsStill();
  // Waits until the VM stands and QEMU saves its devices, or has saved them.
  absl::Status WaitForSave();
  // Waits until QEMU's migration is in `wanted`; an error with QEMU's reason if it ends otherwise.
  absl::Status WaitForMigration(std::string_view wanted, int64_t timeout_ms);
  absl::Status MigrationError(std::string status);
  // Sends `quit`. Ok when QEMU is ending.
  absl::Status Quit();
  // On a new connection if this one was lost; Unavailable if QEMU has ended.
  absl::Status Ask(const std::function<absl::Status()>& ask);

  // On the control thread.
  void OnPiece(StreamPart part, std::vector<std::byte> bytes);
  void GiveToSink(std::span<const std::byte> bytes);

  const QemuSourceOptions options_;
  // The control thread's.
  DeviceStateSink sink_;
  bool freeze_told_ = false;                  // Freeze's `done` has run
  std::vector<std::vector<std::byte>> held_;  // what may not come before that

  // The worker thread's. In the order of destruction, last first.
  std::unique_ptr<QmpClient> qmp_;
  MonitoredProcess process_;
  DiscoveredVm prepared_;
  DiscoveredVm frozen_;
  std::vector<RamBlock> blocks_;  // as they were just before the VM was stopped
  bool pauses_before_switch_ = true;
  bool saved_ = false;         // QEMU has said that its migration is complete
  int64_t stopped_at_ns_ = 0;  // of the last STOP event; 0: none came, it was paused before
  bool paused_ = false;        // SetPaused has stopped it, and it ran before
  bool touched_ = false;       // this VM has been found fit and its settings changed
  RollbackPlan plan_;
  std::unique_ptr<Guardian> guardian_;
  std::unique_ptr<DeviceStreamReader> stream_;

  OperationWorker worker_;  // last: its thread uses all of the above
};

}  // namespace faultline

#endif  // FAULTLINE_VMM_QEMU_QEMU_SOURCE_VMM_H_
