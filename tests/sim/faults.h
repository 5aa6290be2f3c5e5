// Lets a plan's faults happen at their moments.
#ifndef FAULTLINE_TESTS_SIM_FAULTS_H_
#define FAULTLINE_TESTS_SIM_FAULTS_H_

#include <memory>
#include <vector>

#include "fakes/fake_network.h"
#include "sim/plan.h"
#include "sim/trace.h"

namespace faultline::sim {

// What faults do beyond the network.
class FaultTarget {
 public:
  virtual ~FaultTarget() = default;
  // Not from within a task of that side.
  virtual void Kill(Side side) = 0;
  virtual void Cancel(Side side) = 0;
  virtual bool IsAlive(Side side) const = 0;
  virtual void StarveDestination(int64_t until_ns) = 0;
  // `thread` as in Fault. Nothing if the side is not alive.
  virtual void HoldThread(Side side, int thread, int64_t until_ns) = 0;
  virtual void KillDestinationVm() = 0;
  // Nothing before the destination has heard Commit.
  virtual void SendLateWord() = 0;
  // Of what `role`'s lane brings to the destination `percent` of the pieces change on their way.
  virtual void ChangeUntil(ConnectionRole role, uint64_t percent, int64_t until_ns) = 0;
  // The source has recorded the handover.
  virtual bool IsHandedOver() const = 0;
};

// One thread.
class Faults {
 public:
  // All arguments outlive it. `hosts` runs what happens outside of the engines.
  Faults(const Plan& plan, FaultTarget* target, FakeNetwork* network, ManualExecutor* hosts,
         Trace* trace);

  // The migration begins: those with a moment of their own are set.
  void Start();
  // A control message that counts is about to be sent by `side`. Says what becomes of it; throws
  // ProcessDied where its sender dies at it.
  FakeFate OnMessage(Side side);
  // The step at which `side` dies by itself; 0: none.
  uint64_t DeathStep(Side side) const;

  // Nothing that has happened may keep a migration from completing: a link that hesitates for less
  // than it takes to call the peer dead, a busy host, one without memory for a while.
  bool harmless() const;
  // The faults together, and `down_us` without a destination's process, may have kept a source from
  // telling how it ended for as long as it tries.
  bool cut_off_for_long(int64_t down_us) const;
  bool cut_off_for_ever() const { return cut_off_for_ever_; }
  int64_t last_end_ns() const { return last_end_ns_; }
  bool cancelled(Side side) const { return cancelled_[static_cast<size_t>(side)]; }

 private:
  void After(int64_t delay_us, Task task);
  void Happen(const Fault& fault);
  void BeginGlobal(const Fault& fault);
  void EndGlobal();
  void Weigh(const Fault& fault);

  const Plan& plan_;
  FaultTarget* const target_;
  FakeNetwork* const network_;
  ManualExecutor* const hosts_;
  Trace* const trace_;
  int messages_ = 0;
  int global_faults_ = 0;  // cuts and stalls of everything that last
  bool cut_off_for_ever_ = false;
  int64_t cut_off_us_ = 0;  // nobody could be told of an outcome, in all
  bool harmful_ = false;
  int64_t stalled_us_ = 0;  // in all
  bool stalled_before_handover_ = false;
  int64_t last_end_ns_ = 0;
  bool cancelled_[2] = {false, false};
  std::vector<std::unique_ptr<Timer>> timers_;
};

}  // namespace faultline::sim

#endif  // FAULTLINE_TESTS_SIM_FAULTS_H_
