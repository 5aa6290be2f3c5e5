// The guest: vCPU-like actors that read, write and give up memory, wherever their VM runs.
#ifndef FAULTLINE_TESTS_SIM_GUEST_H_
#define FAULTLINE_TESTS_SIM_GUEST_H_

#include <cstdint>
#include <memory>
#include <set>
#include <vector>

#include "fakes/fake_dirty_tracker.h"
#include "fakes/fake_guest_memory.h"
#include "fakes/fake_source_memory.h"
#include "fakes/fake_vmm.h"
#include "fakes/manual_executor.h"
#include "sim/checked_memory.h"
#include "sim/model_memory.h"
#include "sim/plan.h"
#include "sim/random.h"
#include "sim/trace.h"
#include "sim/watch.h"

namespace faultline::sim {

// Each act is one access to one word, done at one moment, and every word read is held against the
// model. An actor that touches a missing page waits for it and then does its access again, as a CPU
// does its instruction. One thread.
class Guest {
 public:
  struct Parts {
    ManualClock* clock = nullptr;
    const FakeVm* vm = nullptr;
    FakeSourceMemory* source_memory = nullptr;
    FakeWrites* writes = nullptr;  // that are seen by who tracks them
    ModelMemory* model = nullptr;
    Trace* trace = nullptr;
    Watch* watch = nullptr;
  };

  // All parts outlive the guest.
  Guest(const Parts& parts, const Plan& plan);
  ~Guest();

  void Start();
  // The destination's memory, once it is armed. It may go only after the guest.
  void set_destination_memory(FakeGuestMemory* memory) { destination_memory_ = memory; }
  // The VM began or ceased to run somewhere.
  void OnVmChanged();

  // Everything is there: nobody has been waiting for long for a page that nobody is asked for.
  void ExpectNobodyForgotten(const MemoryFacts& facts);
  // Actors that stand in a fault or in a discard.
  int waiting_count() const;
  uint64_t reads_checked() const { return reads_checked_; }

 private:
  class Actor;

  PageId AnyPage();

  const Parts parts_;
  const bool discards_;
  Random random_;
  ManualExecutor cpus_;
  FakeGuestMemory* destination_memory_ = nullptr;
  std::multiset<PageId> in_access_;  // pages at which an actor was stopped in its access
  uint64_t reads_checked_ = 0;
  std::vector<std::unique_ptr<Actor>> actors_;
};

}  // namespace faultline::sim

#endif  // FAULTLINE_TESTS_SIM_GUEST_H_
