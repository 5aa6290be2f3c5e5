// The guardian: a small process that outlives its parent by a moment and cleans up after it.
//
// If the parent dies before the handover, the source's guardian puts the VM back to work, and the
// destination's ends a QEMU that nobody will finish loading. The parent talks to it over a lifeline
// socket, whose end is the sign of the parent's death.
#ifndef FAULTLINE_VMM_QEMU_GUARDIAN_H_
#define FAULTLINE_VMM_QEMU_GUARDIAN_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "base/file_descriptor.h"
#include "base/status.h"

namespace faultline {

// One thread.
class Guardian {
 public:
  enum class Side : uint8_t { kSource = 1, kDestination = 2 };

  struct Setup {
    Side side = Side::kSource;
    std::string journal_path;  // what was decided: it must exist
    int monitor = -1;          // the connected and negotiated monitor socket
    std::string monitor_path;  // where to connect if that connection is lost
    std::string plan;          // source: EncodePlan
    int process = -1;          // destination: a pidfd of its QEMU
    std::vector<int> held;     // kept open as long as the guardian lives: the RAM files
  };

  // Starts `/proc/self/exe guardian ...` in a session of its own. The program's main must hand the
  // arguments after "guardian" to RunGuardian. Until AwaitReady it is no guardian yet.
  static absl::StatusOr<std::unique_ptr<Guardian>> Spawn(const Setup& setup);
  // Waits until it can do its work. Before the first look at alive().
  absl::Status AwaitReady();
  // Without StandDown before it: the guardian does its work as if this process had died.
  ~Guardian();

  bool alive() const;
  // Source: what to restore from now on.
  absl::Status UpdatePlan(const std::string& plan);
  // It is not needed any more: it ends without touching anything. Waits for its end.
  void StandDown();

 private:
  Guardian(FileDescriptor lifeline, pid_t pid) : lifeline_(std::move(lifeline)), pid_(pid) {}

  FileDescriptor lifeline_;
  const pid_t pid_;
  bool ready_ = false;
};

// The guardian's main program; `arguments` are those after the word "guardian". Returns when its
// work is over; InvalidArgument if somebody started it by hand.
absl::Status RunGuardian(const std::vector<std::string>& arguments);

}  // namespace faultline

#endif  // FAULTLINE_VMM_QEMU_GUARDIAN_H_
