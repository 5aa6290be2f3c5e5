// One simulated migration: two hosts, the link between them, the guest, and what goes wrong.
#ifndef FAULTLINE_TESTS_SIM_WORLD_H_
#define FAULTLINE_TESTS_SIM_WORLD_H_

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fakes/fake_journal.h"
#include "fakes/fake_network.h"
#include "sim/arrived_once.h"
#include "sim/canaries.h"
#include "sim/checked_memory.h"
#include "sim/faults.h"
#include "sim/guest.h"
#include "sim/model_memory.h"
#include "sim/plan.h"
#include "sim/processes.h"

namespace faultline::sim {

// How one side's command ended.
struct CommandEnd {
  bool over = false;
  std::optional<SessionResult> result;  // none: it was killed, or never ended
  int restarts = 0;
  bool killed() const { return over && !result.has_value(); }
};

// What one run came to.
struct Outcome {
  std::string breach;  // empty: every rule held
  uint64_t digest = 0;
  uint64_t events = 0;
  bool handed_over = false;
  bool completed = false;  // on both sides
  bool restarted = false;  // one of the commands, at least once
  uint64_t reads_checked = 0;
  std::string last_events;  // in words; only where asked for, or after a breach
};

// Runs in one thread on a virtual clock; everything in it follows from the plan. Parts that look
// into it (the faults, the verdict) get it whole.
class World : public FaultTarget {
 public:
  explicit World(const Plan& plan, Canary canary = Canary::kNone);
  ~World() override;

  // Once.
  Outcome Run();

  // FaultTarget:
  void Kill(Side side) override;
  void Cancel(Side side) override;
  bool IsAlive(Side side) const override;
  void StarveDestination(int64_t until_ns) override;
  void HoldThread(Side side, int thread, int64_t until_ns) override;
  void KillDestinationVm() override;
  void SendLateWord() override;
  void ChangeUntil(ConnectionRole role, uint64_t percent, int64_t until_ns) override;
  bool IsHandedOver() const override { return facts.handed_over(); }

  const Plan plan;
  ManualClock clock;
  FakeNetwork network{&clock};
  Trace trace{&clock};
  Watch watch{&trace};
  Saboteur saboteur;
  FakeVm vm;
  ModelMemory model;
  FakeSourceMemory source_memory;
  FakeWrites writes;
  FakeJournal source_journal, destination_journal;
  MemoryFacts facts;
  std::unique_ptr<FakeGuestMemory> destination_memory;  // once armed
  std::unique_ptr<Guest> guest;
  CommandEnd source_end, destination_end;
  std::unique_ptr<Faults> faults;
  // It could not be told whose the VM is, and its operator gave up.
  bool destination_gave_up = false;
  bool destination_vm_died = false;
  int64_t destination_down_us = 0;  // between its processes, in all
  // It told the source that it cannot go on, when it could not know whose the VM is.
  bool destination_failed_in_doubt = false;

 private:
  // Lets a lane's piece arrive other than it was sent, while a fault says so.
  void ChangeOnItsWay(ConnectionRole role, int to, FakeNetwork::Bytes* bytes);
  void FillMemory();
  // Lets some thread of some side wait for a processor, now and then.
  void HoldSomeThread(int holds_left);
  // A person ends pre-copy, where the plan has one.
  void SwitchLater();
  void StartDestination(uint64_t death_step, bool resumes);
  void StartSource(uint64_t death_step, bool resumes);
  FakeFate OnControlMessage(const Message& message, bool from_source);
  void CheckMessage(const Message& message, bool from_source);
  // Until `done` holds (true), a rule is broken, or the time is up. Processes may die meanwhile.
  bool Drive(const std::function<bool()>& done, int64_t limit_us);
  void RunToTheEnd();
  // After the handover and without a limit of time: the link, or the other side, is gone for good.
  bool TriesInVain(Side side) const;
  // Long enough after there is room again, the VM is not paused for the want of it.
  void ExpectNotPaused();
  void ExpectDestinationMayWait();
  // What survived the command is enough to take its migration up again, and it is.
  bool StartsAgain(Side side) const;
  void StartAgain(Side side);
  CommandEnd& EndOf(Side side) { return side == Side::kSource ? source_end : destination_end; }
  Surroundings surroundings();
  void LeaveInPeace(Side side);
  void Depart(Side side);
  void Guard(Side side);

  struct Change {
    uint64_t percent = 0;
    int64_t until_ns = 0;
  };

  Random random_;
  std::map<ConnectionRole, Change> changes_;
  ArrivedOnce arrived_once_{&watch};
  size_t restarts_ = 0;  // of both sides
  int64_t last_restart_ns_ = 0;
  int64_t destination_killed_ns_ = 0;  // last
  std::vector<std::unique_ptr<FakeSocket>> late_words_;
  ManualExecutor hosts_;  // what happens outside of the engines
  std::vector<std::unique_ptr<Timer>> timers_;
  std::unique_ptr<Timer> hold_timer_;
  std::unique_ptr<SourceProcess> source_;
  std::unique_ptr<DestinationProcess> destination_;
};

}  // namespace faultline::sim

#endif  // FAULTLINE_TESTS_SIM_WORLD_H_
