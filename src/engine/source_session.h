// The source's half of a migration: prepares, freezes, hands over, and serves memory until the
// destination has all of it.
//
// Until Commit has been recorded in the journal every failure ends with the VM back at work here;
// from then on this side never starts it again, and a connection that is lost is made again.
//
// Thread safety: lives on the control executor's thread, except where a method says otherwise.
#ifndef FAULTLINE_ENGINE_SOURCE_SESSION_H_
#define FAULTLINE_ENGINE_SOURCE_SESSION_H_

#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>

#include "engine/back_off.h"
#include "engine/lifetime_guard.h"
#include "engine/mismatch.h"
#include "engine/missing_pages.h"
#include "engine/outcome_teller.h"
#include "engine/peer_watch.h"
#include "engine/pre_copy.h"
#include "engine/pusher.h"
#include "engine/round_policy.h"
#include "engine/session_limits.h"
#include "engine/session_report.h"
#include "pages/page_digest.h"
#include "seams/dirty_tracker.h"
#include "seams/executor.h"
#include "seams/journal.h"
#include "seams/push_order.h"
#include "seams/source_memory.h"
#include "seams/transport.h"
#include "seams/vmm.h"

namespace faultline {

class SourceSession : public ControlChannel::Listener, public PageExporter::Listener {
 public:
  // What the session is made of; all of it outlives the session.
  struct Parts {
    Executor* control = nullptr;
    Executor* demand = nullptr;
    Executor* bulk = nullptr;
    SourceVmm* vmm = nullptr;
    SourceMemoryFactory* memory_factory = nullptr;
    SourceTransport* transport = nullptr;
    // For the modes that send memory before the switch; null where nothing can track writes.
    DirtyTrackerFactory* tracker_factory = nullptr;
    std::unique_ptr<PushOrder> push_order;
    Journal* journal = nullptr;
    SessionObserver* observer = nullptr;
  };
  // What a session that died after the handover knew.
  struct Resume {
    SessionToken token{};
    bool run = true;  // as in Commit
  };
  struct Options {
    MigrationId id{};
    bool quit_source = false;
    std::optional<Resume> resume;  // takes that migration up again
    IntegrityWish integrity = IntegrityWish::kDefault;
    MigrationMode mode = MigrationMode::kPostCopy;
    PreCopyBudgets budgets;
    SessionLimits limits;
  };
  using Done = std::function<void(SessionResult)>;

  SourceSession(Parts parts, Options options);

  // Runs the migration; `done` once, when nothing of it is left on any executor.
  void Start(Done done);
  void Cancel(const std::string& reason);
  // Ends pre-copy soon, or before it begins; says so where there is none to end.
  void SwitchNow();

  void OnMessage(Message message) override;
  void OnChannelClosed(absl::Status reason) override;
  void OnDemand(PageId page) override;                  // demand thread
  void OnExporterFailed(absl::Status status) override;  // demand thread

 private:
  enum class Step : uint8_t {
    kIdle,
    kDescribing,    // waiting for the VMM's description
    kConnecting,    // waiting for the connection
    kGreeting,      // waiting for Welcome
    kOffered,       // waiting for Accepted
    kJoining,       // waiting for the lanes, and for Ready
    kPreCopying,    // sending memory while the VM runs
    kFreezing,      // waiting for the VM to stand still
    kSaving,        // waiting for the device state
    kLoading,       // waiting for Loaded
    kCommitted,     // waiting for Running
    kRunning,       // waiting for Completed
    kReconnecting,  // waiting for a connection in place of the one that was lost
    kResuming,      // waiting to hear what is missing, then for the lanes
    kRetiring,      // waiting for the VMM to be let go
    kRollingBack,   // waiting for the VM to run here again
    kTelling,       // waiting for the destination's answer to how it ended
    kEnding,        // waiting for the lanes to stop
    kEnded,
  };

  // What has happened on a connection that resumes.
  struct Resuming {
    bool welcomed = false;    // and Commit was sent
    bool list_ended = false;  // what is missing is known
  };

  bool committed() const { return result_.owner == VmOwner::kDestination; }
  std::string peer() const;
  void EnterPhase(Phase phase);

  // Each step and what ends it.
  void OnDescribed(absl::StatusOr<VmDescription> vm);
  void OnConnected(absl::StatusOr<std::unique_ptr<ControlChannel>> channel);
  void TakeChannel(std::unique_ptr<ControlChannel> channel, int64_t silence_max_us);
  // Whether pages are checked, as the destination has it; an error if this side needs it otherwise.
  absl::Status AgreeOn(const Welcome& welcome);
  absl::Status OpenTracker();
  void StartPreCopy();
  void SettlePreCopy();
  // Whether what the tracker was made for is still so.
  absl::Status CheckStillTracked(const VmDescription& vm) const;
  void OnRoundReceived(const RoundReceived& received);
  void OnWelcome(const Welcome& welcome);
  void OnAccepted(const Accepted& accepted);
  void OnLanesOpen(absl::StatusOr<SourceTransport::Lanes> lanes);
  LaneTerms Terms() const;
  absl::Status KeepForAnother();
  void FreezeIfReady();
  void Freeze();
  void OnFrozen(absl::StatusOr<VmDescription> vm);
  void ReadAllocationMap();
  void OnMapRead(absl::StatusOr<AllocationMap> map);
  void PushIfReady();
  void SendAllocationMap();
  void OnDeviceState(std::span<const std::byte> bytes);
  void OnSaved(absl::Status status);
  void CommitHandover();
  void SendCommit();
  bool HandlePostCopy(const Message& message);
  void OnRunning(const Running& running);
  void OnProgressMessage(const Progress& progress);
  void OnMismatch(const Mismatch& mismatch);
  void OnCompleted(const Completed& completed);
  void RecordCompleted();

  // The connection is lost, or no good, after the handover.
  void LoseLink(absl::Status reason);
  // Goes on in place of a session that died after the handover.
  void TakeUp();
  void LimitRecovery();
  void NoteFailedTry(const absl::Status& reason);
  void TryLater();
  void OnReconnected(absl::StatusOr<std::unique_ptr<ControlChannel>> channel);
  bool HandleResuming(const Message& message);
  void OnMissingKnown(const StillMissingEnd& end);
  void OnLanesReopened(absl::StatusOr<SourceTransport::Lanes> lanes);

  void OnLaneFailed(const absl::Status& status);
  // Ends the migration with `status`: rolls back before the handover, gives up after it.
  void Fail(absl::Status status, PeerErrorCode code);
  void OnRolledBack(absl::Status status);
  void MakeSureItKnows();
  void NoteAnswer(const Message& message);
  void TellOutcome();
  void EndUntold();
  void End();
  void Finish();

  void Report();
  ProgressSnapshot Snapshot() const;

  Parts parts_;
  const Options options_;
  Done done_;
  std::string cancelled_early_;  // the reason, if Cancel came before Start
  Pusher pusher_;                // bulk thread

  Step step_ = Step::kIdle;
  SessionResult result_;
  Phase phase_ = Phase::kConnecting;
  int64_t started_ns_ = 0;
  int64_t frozen_ns_ = 0;
  int64_t committed_ns_ = 0;
  bool was_running_ = false;
  bool channel_open_ = false;
  std::string peer_name_;
  bool lanes_up_ = false;  // they were given out and not stopped since
  absl::Status lane_failure_;
  IntegrityWish integrity_wish_;  // once agreed on: what was agreed
  MismatchNotes mismatches_;
  // It has all it needs to load the VM, and nothing from it shows that it knows how it ended.
  bool destination_awaits_word_ = false;
  bool peer_loaded_ = false;  // Loaded came while this side was giving up

  VmDescription vm_;
  MemoryLayout layout_;
  std::string destination_vmm_;
  std::unique_ptr<SourceMemory> memory_;
  std::unique_ptr<DirtyTracker> tracker_;  // until pre-copy begins
  std::unique_ptr<PreCopy> pre_copy_;      // null where memory is sent after the switch only
  bool switch_asked_ = false;
  AllocationMap map_;                      // empty until it was read
  std::unique_ptr<MissingPages> missing_;  // null until a connection was made again
  AllocationMap push_map_;                 // the pusher's, between its Start and Stop
  bool map_asked_ = false;
  bool pushing_ = false;
  bool destination_has_map_ = false;
  bool destination_runs_ = false;
  uint64_t device_state_bytes_ = 0;
  RunDigester device_state_digest_;  // with integrity
  SessionToken token_{};
  SourceTransport::Lanes lanes_;
  bool destination_ready_ = false;
  Progress peer_progress_;
  bool peer_reports_ = false;

  Resuming resuming_;
  BackOff back_off_;
  int64_t lost_at_ns_ = 0;
  std::string last_try_;  // why the last try to connect again failed
  uint64_t missing_before_ = std::numeric_limits<uint64_t>::max();  // at the last connection
  uint64_t reconnects_ = 0;

  std::unique_ptr<ControlChannel> channel_;
  std::unique_ptr<PeerWatch> watch_;  // after channel_: goes first
  std::unique_ptr<Timer> deadline_;
  std::unique_ptr<Timer> report_timer_;
  std::unique_ptr<Timer> lane_timer_;
  std::unique_ptr<Timer> retry_timer_;
  std::unique_ptr<Timer> recovery_timer_;
  std::unique_ptr<OutcomeTeller> teller_;
  LifetimeGuard guard_;
};

}  // namespace faultline

#endif  // FAULTLINE_ENGINE_SOURCE_SESSION_H_
