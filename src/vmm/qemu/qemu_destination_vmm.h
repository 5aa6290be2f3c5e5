// A destination VM in a stock QEMU that waits with -incoming defer, driven through its monitor.
#ifndef FAULTLINE_VMM_QEMU_QEMU_DESTINATION_VMM_H_
#define FAULTLINE_VMM_QEMU_QEMU_DESTINATION_VMM_H_

#include <functional>
#include <memory>
#include <string>

#include "seams/executor.h"
#include "seams/vmm.h"
#include "vmm/qemu/device_relay.h"
#include "vmm/qemu/guardian.h"
#include "vmm/qemu/migration_settings.h"
#include "vmm/qemu/monitor_call.h"
#include "vmm/qemu/monitored_process.h"
#include "vmm/qemu/operation_worker.h"
#include "vmm/qemu/qmp_client.h"
#include "vmm/qemu/ram_discovery.h"

namespace faultline {

struct QemuDestinationOptions {
  std::string qmp_path;
  // Asked when Prepare is called: the path of the journal, which exists by then. Empty function or
  // text: no guardian.
  std::function<std::string()> journal_path;
  // As in QemuSourceOptions: called once the VM is this side's.
  std::function<void()> at_handover;
};

// Load, TakeOver and SetPaused wait for QEMU as long as it takes: its main loop may itself wait for
// a page. Discard ends such a wait, and ends a QEMU whose monitor is dumb.
class QemuDestinationVmm : public DestinationVmm {
 public:
  QemuDestinationVmm(QemuDestinationOptions options, Executor* control);
  ~QemuDestinationVmm() override;

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
  absl::StatusOr<VmDescription> DoPrepare(const std::string& journal_path);
  absl::StatusOr<VmDescription> DoDescribeAgain();
  absl::Status DoLoad();
  absl::Status CheckAliveAtTheEnd();
  absl::Status DoTakeOver(bool run);
  absl::Status DoSetPaused(bool paused);
  absl::Status DoFinish();
  absl::Status DoDiscard();

  absl::Status StartGuardian(const std::string& journal_path);
  absl::Status LoadError(const absl::Status& cause);
  absl::Status KillQemu();
  // How a monitor that hung up is called again; `patient`: QEMU may wait for a page.
  MonitorCall Call(bool patient);

  const QemuDestinationOptions options_;
  // Control thread only: made in Prepare, so that bytes can be fed as soon as Load was called.
  std::unique_ptr<DeviceStreamWriter> stream_;
  FileDescriptor stream_for_qemu_;  // given to the worker with Prepare
  VmmNotice notice_;                // control thread only

  CancelEvent state_ended_;  // set when the source has sent all of the device state

  // The worker thread's.
  std::unique_ptr<QmpClient> qmp_;
  DiscoveredVm prepared_;
  DiscoveredVm described_again_;
  SettingsBackup settings_;
  MonitoredProcess process_;
  bool may_discard_ = false;  // QEMU was seen waiting, and the VM is not this side's yet
  std::unique_ptr<Guardian> guardian_;

  OperationWorker worker_;  // last: its thread uses all of the above
};

}  // namespace faultline

#endif  // FAULTLINE_VMM_QEMU_QEMU_DESTINATION_VMM_H_
