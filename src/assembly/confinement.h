// How the process of a session gives up, step by step, what the session does not need any more
// (docs/adr/0015-least-privilege.md). For the command only: a program with a session of its own in
// it (the C ABI) is not this library's to confine.
#ifndef FAULTLINE_ASSEMBLY_CONFINEMENT_H_
#define FAULTLINE_ASSEMBLY_CONFINEMENT_H_

#include <functional>

#include "assembly/session_loops.h"
#include "base/status.h"
#include "seams/executor.h"

namespace faultline {

enum class ConfinedSide : uint8_t { kSource = 1, kDestination = 2 };

struct ConfinementOptions {
  bool on = false;
  ConfinedSide side = ConfinedSide::kSource;
  bool huge_pages = false;  // MADV_COLLAPSE in the VM's process
  // An RDMA device may not be used any more by a thread whose rights changed (the kernel's
  // ib_safe_file_access), so nothing is given up.
  bool rdma = false;
};

// Control thread. Where this host refuses a step the others are taken all the same, and the session
// goes on.
class Confinement {
 public:
  Confinement(const ConfinementOptions& options, SessionLoops* loops)
      : options_(options), loops_(loops) {}

  // Before any of the session's threads runs, and after the last program was started that needs
  // more: leaves what preparing needs. `notice` hears what this host refuses, and that with RDMA
  // nothing is given up.
  void BeginSetUp(std::function<void(const std::string&)> notice);
  // The VMM is prepared, its guardian runs: the last program has been started. Only the system
  // calls of an engine at work are left.
  void EndPreparing();
  // The VM's memory is in hand: the control thread keeps what failing needs, and what listening
  // needs where that comes later (--resume).
  void HoldMemory(bool listens_later = false);

 private:
  bool gives_up() const { return options_.on && !options_.rdma; }
  void Note(const absl::Status& status);

  const ConfinementOptions options_;
  SessionLoops* const loops_;
  std::function<void(const std::string&)> notice_;  // from BeginSetUp on
};

// What a driver runs on its own thread once the VM is the destination's: neither that thread nor
// the control thread has any right left then. Nothing if not `on`.
std::function<void()> ConfinementAtHandover(bool on, Executor* control);

}  // namespace faultline

#endif  // FAULTLINE_ASSEMBLY_CONFINEMENT_H_
