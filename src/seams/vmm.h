// The hypervisor, as the engine sees it: a driver for QEMU's monitor, or a program's own callbacks
// behind the C ABI.
//
// All methods are called on the control executor and return at once; each `done` runs there later,
// exactly once, also after a failure. At most one operation is under way, except where said.
// Destroying a driver drops the `done` of what is under way.
#ifndef FAULTLINE_SEAMS_VMM_H_
#define FAULTLINE_SEAMS_VMM_H_

#include <cstddef>
#include <functional>
#include <span>
#include <string>

#include "base/status.h"
#include "seams/vm_description.h"

namespace faultline {

using VmmDone = std::function<void(absl::Status)>;
// Something that a person should know while an operation takes its time.
using VmmNotice = std::function<void(const std::string&)>;
using VmmDescribed = std::function<void(absl::StatusOr<VmDescription>)>;
// Receives device state in order, on the control executor. The bytes are valid during the call.
using DeviceStateSink = std::function<void(std::span<const std::byte>)>;

// When a VM counts as frozen. Nothing writes its memory any more at either.
enum class FreezePoint : uint8_t {
  kDrained,  // at once, before its devices are saved: for whoever looks at its memory for long
  kSaving,   // while they are being saved, or when they are: nobody waits for anybody
};

// The VM that goes away.
class SourceVmm {
 public:
  virtual ~SourceVmm() = default;

  // Discovers the VM and checks that it can move. Changes nothing that Rollback does not undo.
  virtual void Prepare(VmmDescribed done) = 0;
  // Between Prepare and Freeze: true stops the VM's CPUs and drains its I/O, so that nothing writes
  // its memory from `done` on; false lets it go on. A VM that its operator had paused before stays
  // so. `done` of false is Aborted if somebody else let the VM run meanwhile: what was read from
  // its memory may be torn. Freeze and Rollback end a pause as well (Freeze takes the VM as one
  // that runs), and the VM goes on if this process dies. Milliseconds, and what the host needs to
  // flush the VM's disks.
  virtual void SetPaused(bool paused, VmmDone done) = 0;
  // Brings the VM to a stop at `point` and describes it once more. Device state may flow to `sink`
  // from here on, until Rollback is called; to load what comes before `done` reads none of the VM's
  // memory. Downtime begins.
  virtual void Freeze(FreezePoint point, DeviceStateSink sink, VmmDescribed done) = 0;
  // Lets the rest of the device state flow. When `done` runs, all of it has been given to the sink
  // and the VMM cannot start the VM by itself any more.
  virtual void SaveDevices(VmmDone done) = 0;
  // Puts the VM back to what it was doing before Prepare, from any state before the handover, also
  // while another operation is under way (whose `done` then gets a Cancelled status first). `done`
  // is ok when the VM is again as it was: another migration may begin with Prepare then. After a
  // failure Rollback may be called again.
  virtual void Rollback(VmmDone done) = 0;
  // Just before the handover, with no operation under way: a reason to roll back instead. Decides
  // at once.
  virtual absl::Status MayHandOver() { return absl::OkStatus(); }
  // The handover happened: the VM is the destination's, and Rollback is not called any more.
  virtual void HandedOver() {}
  // After the handover, with no operation under way: an error if the VM has run here since, so that
  // its memory is no longer what the destination needs. Decides at once, by what is known.
  virtual absl::Status StandsStill() { return absl::OkStatus(); }
  // After all memory has arrived: nothing more is needed from this VMM. `quit` ends its process.
  virtual void Retire(bool quit, VmmDone done) = 0;
};

// The VM that comes to be.
class DestinationVmm {
 public:
  virtual ~DestinationVmm() = default;

  // Before anything else, if somebody listens. `notice` is called on the control executor.
  virtual void SetNotice(VmmNotice notice) { (void)notice; }

  // Discovers the waiting VM and checks that it can take one over.
  virtual void Prepare(VmmDescribed done) = 0;
  // Describes it once more (memory may have been plugged since Prepare).
  virtual void DescribeAgain(VmmDescribed done) = 0;
  // Begins to load; device state follows through FeedDeviceState while this is under way. `done`
  // when the VM is loaded and stands paused, or with the reason why it could not be.
  virtual void Load(VmmDone done) = 0;
  virtual void FeedDeviceState(std::span<const std::byte> bytes) = 0;
  virtual void EndDeviceState() = 0;
  // The handover happened. The VM is this side's: run it (and announce it to the network), or leave
  // it paused if it was paused before.
  virtual void TakeOver(bool run, VmmDone done) = 0;
  // Stops and continues the VM's CPUs after the handover (out of memory on this host).
  virtual void SetPaused(bool paused, VmmDone done) = 0;
  // All memory is there: nothing more is needed. After TakeOver, which another process may have
  // done. Unavailable: the VM's process has ended.
  virtual void Finish(VmmDone done) = 0;
  // Before the handover only: the VM must end here, also while another operation is under way
  // (whose `done` then gets a Cancelled status first).
  virtual void Discard(VmmDone done) = 0;
};

}  // namespace faultline

#endif  // FAULTLINE_SEAMS_VMM_H_
