// The two engine processes of one simulated migration: real sessions, and what dies with them.
#ifndef FAULTLINE_TESTS_SIM_PROCESSES_H_
#define FAULTLINE_TESTS_SIM_PROCESSES_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "engine/destination_session.h"
#include "engine/source_session.h"
#include "fakes/fake_dirty_tracker.h"
#include "fakes/fake_journal.h"
#include "fakes/fake_transport.h"
#include "fakes/fake_vmm.h"
#include "fakes/manual_executor.h"
#include "sim/arrived_once.h"
#include "sim/checked_lanes.h"
#include "sim/checked_memory.h"
#include "sim/lifeline.h"
#include "sim/plan.h"

namespace faultline::sim {

// What outlives the processes; see World.
struct Surroundings {
  const Plan* plan = nullptr;
  ManualClock* clock = nullptr;
  FakeNetwork* network = nullptr;
  FakeVm* vm = nullptr;
  FakeWrites* writes = nullptr;
  Saboteur* saboteur = nullptr;
  Trace* trace = nullptr;
  Watch* watch = nullptr;
  ArrivedOnce* arrived_once = nullptr;
};

// One process's three threads.
struct ProcessThreads {
  ProcessThreads(ManualClock* clock, const std::string& side)
      : control(clock, side + " control"),
        demand(clock, side + " demand"),
        bulk(clock, side + " bulk") {}
  size_t pending() const { return control.pending() + demand.pending() + bulk.pending(); }
  size_t own_timers() const {
    return control.own_timers() + demand.own_timers() + bulk.own_timers();
  }
  bool held() const { return control.held() || demand.held() || bulk.held(); }
  // As Fault::thread counts them.
  ManualExecutor& at(int thread) { return thread == 0 ? control : thread == 1 ? demand : bulk; }
  ManualExecutor control, demand, bulk;
};

// Writes the session's phases and notices to the trace.
class TracingObserver : public SessionObserver {
 public:
  TracingObserver(Side side, Trace* trace) : side_(side), trace_(trace) {}
  void OnListening(const std::string&) override {
    listens_ = true;
    trace_->Note(side_, "listens");
  }
  void OnPhase(Phase phase, const std::string&) override {
    phase_ = phase;
    trace_->Note(side_, "phase", static_cast<uint64_t>(phase));
  }
  void OnProgress(const ProgressSnapshot&) override {}
  void OnNotice(const std::string& text) override {
    trace_->Note(side_, "notice");
    if (on_reconnected_ && text.starts_with("connected again")) on_reconnected_();
  }
  void set_on_reconnected(std::function<void()> called) { on_reconnected_ = std::move(called); }
  Phase phase() const { return phase_; }
  bool listens() const { return listens_; }

 private:
  const Side side_;
  Trace* const trace_;
  Phase phase_ = Phase::kConnecting;
  bool listens_ = false;
  std::function<void()> on_reconnected_;
};

// The process's hold on a journal that outlives it.
class HeldJournal : public Journal {
 public:
  // All arguments outlive it.
  HeldJournal(Side side, FakeJournal* journal, Lifeline* lifeline, Trace* trace)
      : side_(side), journal_(journal), lifeline_(lifeline), trace_(trace) {}
  absl::Status Record(JournalPhase phase) override;
  absl::Status Keep(const KeptTerms& terms, const VmDescription& vm) override;
  absl::Status MakeDurable() override;

 private:
  const Side side_;
  FakeJournal* const journal_;
  Lifeline* const lifeline_;
  Trace* const trace_;
};

// `faultline migrate`, or with `resumes` `faultline migrate --resume`, which goes by the journal.
// Destroying it is its death: the network hears that its connections close,
// and nothing else of it happens.
class SourceProcess {
 public:
  using Done = std::function<void(SessionResult)>;

  // `journal` and `memory` outlive it. `done` is called when the session has ended by itself.
  SourceProcess(const Surroundings& world, Lifeline lifeline, FakeJournal* journal,
                FakeSourceMemory* memory, bool resumes, Done done);
  ~SourceProcess();

  void Cancel(const std::string& reason);
  void SwitchNow();
  // Takes the session and its parts down. Returns how many timers the session had left on its
  // threads, and tasks and timers its parts after their end: none, where it had ended by itself.
  size_t TakeDown();
  ProcessThreads& threads() { return threads_; }
  Phase phase() const { return observer_.phase(); }
  Lifeline* lifeline() { return &lifeline_; }

 private:
  class MemoryFactory;
  class TrackerFactory;

  const Surroundings world_;
  Lifeline lifeline_;
  ProcessThreads threads_;
  TracingObserver observer_;
  std::unique_ptr<FakeSourceVmm> vmm_;
  std::unique_ptr<FakeSourceTransport> transport_;
  std::unique_ptr<MemoryFactory> memory_factory_;
  std::unique_ptr<TrackerFactory> tracker_factory_;
  std::unique_ptr<Journal> journal_;
  std::unique_ptr<SourceSession> session_;
};

// `faultline receive`, or `faultline receive --resume`.
class DestinationProcess {
 public:
  using Done = std::function<void(SessionResult)>;
  // Makes the VM's memory, which outlives the process, or finds the one that an earlier process
  // made, and says where it is.
  using MakeMemory = std::function<FakeGuestMemory*(const MemoryLayout&, ManualExecutor* demand)>;

  DestinationProcess(const Surroundings& world, Lifeline lifeline, FakeJournal* journal,
                     const ModelMemory* model, MemoryFacts* facts, MakeMemory make_memory,
                     bool resumes, Done done);
  ~DestinationProcess();

  void Cancel(const std::string& reason);
  size_t TakeDown();
  FakeDestinationVmm& vmm() { return *vmm_; }
  ProcessThreads& threads() { return threads_; }
  Phase phase() const { return observer_.phase(); }
  bool listens() const { return observer_.listens(); }
  Lifeline* lifeline() { return &lifeline_; }

 private:
  class MemoryFactory;

  void TouchWhileLoading(int touches_left, std::function<void()> go_on);

  const Surroundings world_;
  Lifeline lifeline_;
  const ModelMemory* const model_;
  MemoryFacts* const facts_;
  const MakeMemory make_memory_;
  FakeGuestMemory* memory_ = nullptr;  // once armed
  Random touches_;
  ProcessThreads threads_;
  TracingObserver observer_;
  std::unique_ptr<FakeDestinationVmm> vmm_;
  std::unique_ptr<FakeDestinationTransport> transport_;
  std::unique_ptr<CheckedDestinationTransport> checked_transport_;
  std::unique_ptr<MemoryFactory> memory_factory_;
  std::unique_ptr<Journal> journal_;
  std::unique_ptr<DestinationSession> session_;
  // Ends before everything else: what waits for the memory looks at it.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace faultline::sim

#endif  // FAULTLINE_TESTS_SIM_PROCESSES_H_
