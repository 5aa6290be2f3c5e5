// The destination's half of a migration: arms memory, loads the devices, takes the VM over, and
// brings its memory in while it runs.
//
// Before Loaded was sent every failure ends with the VM gone here. Between Loaded and Commit only
// the source can say whose the VM is: it stays paused here until the source has said so. After
// Commit it is this side's, and a connection that is lost is waited for until it is made again.
//
// Thread safety: lives on the control executor's thread, except where a method says otherwise.
#ifndef FAULTLINE_ENGINE_DESTINATION_SESSION_H_
#define FAULTLINE_ENGINE_DESTINATION_SESSION_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "engine/bulk_receiver.h"
#include "engine/dirty_list.h"
#include "engine/fault_handler.h"
#include "engine/lifetime_guard.h"
#include "engine/mismatch.h"
#include "engine/peer_watch.h"
#include "engine/read_around.h"
#include "engine/session_limits.h"
#include "engine/session_report.h"
#include "engine/transfer.h"
#include "pages/page_digest.h"
#include "seams/executor.h"
#include "seams/guest_memory.h"
#include "seams/journal.h"
#include "seams/transport.h"
#include "seams/vmm.h"

namespace faultline {

class DestinationSession : public ControlChannel::Listener, public TransferListener {
 public:
  // What the session is made of; all of it outlives the session.
  struct Parts {
    Executor* control = nullptr;
    Executor* demand = nullptr;
    Executor* bulk = nullptr;
    DestinationVmm* vmm = nullptr;
    GuestMemoryFactory* memory_factory = nullptr;
    DestinationTransport* transport = nullptr;
    Journal* journal = nullptr;
    SessionObserver* observer = nullptr;
  };
  // What a session that died after Loaded knew.
  struct Resume {
    MigrationId id{};
    bool committed = false;  // it had heard Commit
    bool whole = false;      // and had all memory
    bool released = false;   // and had let it go
  };
  struct Options {
    SessionToken token{};          // random, a new one for each migration
    std::optional<Resume> resume;  // takes that migration up again
    ReadAround read_around = ReadAround::Automatic();
    bool huge_pages = false;  // makes the memory huge again after the last page
    IntegrityWish integrity = IntegrityWish::kDefault;
    SessionLimits limits;
  };
  using Done = std::function<void(SessionResult)>;

  DestinationSession(Parts parts, Options options);

  // Waits for a source and runs the migration; `done` once, when nothing of it is left on any
  // executor.
  void Start(Done done);
  void Cancel(const std::string& reason);

  void OnMessage(Message message) override;
  void OnChannelClosed(absl::Status reason) override;
  void OnAllPresent() override;                         // lane threads
  void OnPushFinished() override;                       // bulk thread
  void OnRoundReceived(uint32_t round) override;        // bulk thread
  void OnOutOfMemory(bool out) override;                // lane threads
  void OnMismatch(PageRun run) override;                // lane threads
  void OnLaneFailed(absl::Status status) override;      // lane threads
  void OnTransferFailed(absl::Status status) override;  // lane threads

 private:
  enum class Step : uint8_t {
    kIdle,
    kDescribing,  // waiting for the VMM's description
    kListening,   // waiting for a source
    kGreeted,     // waiting for Offer
    kJoining,     // waiting for the lanes
    kChecking,    // waiting for the VMM's second description
    kReceiving,   // waiting for Frozen, the allocation map, the device state
    kLoading,     // all of it is here; waiting for the VMM to have loaded it
    kUndecided,   // Loaded was sent; waiting for Commit, or for word that there will be none
    kTakingOver,  // the VM is ours; waiting for it to run
    kRunning,     // waiting for the rest of the memory
    kClosing,     // waiting for the memory to be disarmed and for the VMM
    kParting,     // Completed was sent; waiting for Goodbye
    kDiscarding,  // waiting for the VM to be gone
    kEnding,      // waiting for the lanes to stop
    kMakingHuge,  // the migration is complete; its memory is made huge again
    kEnded,
  };

  // Hears a later connection of the source that only tells that the VM stays there.
  class OutcomeListener : public ControlChannel::Listener {
   public:
    OutcomeListener(DestinationSession* session, std::unique_ptr<ControlChannel> channel);
    void OnMessage(Message message) override;
    void OnChannelClosed(absl::Status reason) override;

   private:
    DestinationSession* const session_;
    const std::unique_ptr<ControlChannel> channel_;
  };

  // What has happened on a connection that takes the migration up again; all false once it has.
  struct Resumed {
    bool connected = false;
    bool committed = false;  // Commit has been repeated on it
    bool told = false;       // what is missing, or that nothing is
  };

  bool owned() const { return result_.owner == VmOwner::kDestination; }
  std::string peer() const;
  void EnterPhase(Phase phase);

  // Each step and what ends it.
  void OnDescribed(absl::StatusOr<VmDescription> vm);
  void OnArrived(const Hello& hello, std::unique_ptr<ControlChannel> channel);
  // Settles with the source whether pages are checked; false: they cannot agree, and it was told.
  bool AgreeOn(const Hello& hello, ControlChannel* channel);
  void TakeChannel(std::unique_ptr<ControlChannel> channel, int64_t silence_max_us);
  bool HandleMessage(Message& message);
  void OnOffer(const Offer& offer);
  absl::Status ArmMemory(const MemoryLayout& source_layout);
  void MakeLaneEnds();
  absl::Status Listen();
  void OnLanesOpen(absl::StatusOr<DestinationTransport::Lanes> lanes);
  LaneTerms Terms() const;
  void UseLanes(const DestinationTransport::Lanes& lanes);
  void OnDescribedAgain(absl::StatusOr<VmDescription> vm);
  void OnFrozen(const Frozen& frozen);
  absl::Status OnAllocatedRanges(const AllocatedRanges& message);
  absl::Status OnAllocationMapEnd(const AllocationMapEnd& message);
  void ForgetMap();
  // The lanes are no good any more.
  void FailLanes(const absl::Status& status, int64_t grace_us);
  // Pre-copy: what the source says is old, and the device state that waits until all of it is
  // known.
  bool HandlePreCopy(const Message& message, absl::Status* status);
  absl::Status OnStillDirtyEnd(const StillDirtyEnd& message);
  void OnMadeMissing(uint32_t round, bool last, const absl::Status& status);
  bool holds_device_state() const { return pre_copy_ && !settled_; }
  absl::Status OnDeviceState(const DeviceState& message);
  absl::Status OnDeviceStateEnd(const DeviceStateEnd& message);
  void OnLoaded(absl::Status status);
  void SendLoadedIfWhole();
  void OnCommit(const Commit& commit);
  void OnTakenOver(absl::Status status);
  void LimitTakeOver();
  void UpdatePause();
  void CompleteIfPresent();
  void ReleaseMemory();
  void OnDisarmed(const absl::StatusOr<std::string>& let_go);
  void OnVmLeft(const absl::Status& kept, const absl::Status& finished);
  void Part();
  void SendEnd();
  void RecordOrSay(JournalPhase phase);

  // The connection is lost, or no good, after Loaded.
  void LoseLink(absl::Status reason);
  // Goes on in place of a session that died after Loaded.
  void TakeUp();
  absl::Status TakeMemoryOver();
  void SeeWhetherVmEnded(const absl::Status& reason);
  void ConnectAgain();
  void LimitRecovery();
  void LimitParting();
  void OnResume(const Hello& hello, std::unique_ptr<ControlChannel> channel);
  void TellMissing();
  void OnLanesJoinedAgain(absl::StatusOr<DestinationTransport::Lanes> lanes);

  void StartWatch(int64_t silence_max_us);
  void OnSilent(int64_t silent_us);
  void NoticeUndecided(const absl::Status& reason);
  void OnSourceGaveUp(const PeerError& error);
  void OnOutcome(const Message& outcome);
  // Ends the migration with `status`: the VM goes here before Loaded, stays paused and undecided
  // after it, stays ours after Commit.
  void Fail(absl::Status status, PeerErrorCode code);
  void DiscardVm();
  void End();
  void OnLanesStopped();
  void MakeNextHuge();
  void OnMadeHuge(const HugePageStep& made);
  void Finish();

  void Report();
  ProgressSnapshot Snapshot() const;

  const Parts parts_;
  const Options options_;
  Done done_;
  std::string cancelled_early_;  // the reason, if Cancel came before Start

  Step step_ = Step::kIdle;
  SessionResult result_;
  Phase phase_ = Phase::kConnecting;
  int64_t started_ns_ = 0;
  int64_t committed_ns_ = 0;
  uint64_t source_downtime_us_ = 0;
  std::string peer_name_;
  bool source_silent_ = false;
  bool lanes_up_ = false;        // they were given out and not stopped since
  bool lanes_stopping_ = false;  // on their threads
  Resumed resumed_;
  int64_t lost_at_ns_ = 0;
  uint64_t reconnects_ = 0;
  absl::Status lane_failure_;
  IntegrityWish integrity_wish_;  // once agreed on: what was agreed
  MismatchNotes mismatches_;
  absl::Status broken_;  // what failed first
  bool vmm_loaded_ = false;
  bool all_present_ = false;
  bool vm_runs_ = false;  // we started it
  int lanes_out_of_memory_ = 0;
  bool paused_for_memory_ = false;  // asked for, at least
  bool pause_under_way_ = false;
  bool disarmed_ = false;  // nobody waits for memory any more

  VmDescription vm_;  // regions in the source's order once armed
  MigrationId id_{};
  bool frozen_ = false;
  bool map_complete_ = false;
  uint64_t data_pages_ = 0;
  uint64_t device_state_bytes_ = 0;
  RunDigester device_state_digest_;  // with integrity
  bool pre_copy_ = false;            // agreed on
  bool settled_ = false;             // all that is old is missing again: the VM may be loaded
  bool last_list_came_ = false;      // of what is old
  DirtyList dirty_list_;
  std::vector<std::vector<std::byte>> held_device_state_;
  std::vector<uint64_t> map_cursor_;  // per region: the map is known up to there
  std::vector<PageRun> map_holes_;    // absent once the map is whole and right
  uint64_t map_digest_ = 0;

  InstallGate gate_;
  TransferCounters counters_;
  std::unique_ptr<GuestMemory> memory_;
  std::unique_ptr<FaultHandler> fault_handler_;  // demand thread
  std::unique_ptr<BulkReceiver> bulk_receiver_;  // bulk thread
  std::unique_ptr<HugePageMaker> huge_pages_;    // bulk thread, once the lanes have stopped
  int64_t huge_pages_began_ns_ = 0;

  std::unique_ptr<ControlChannel> channel_;  // null while there is no connection
  std::unique_ptr<PeerWatch> watch_;         // after channel_: goes first
  std::unique_ptr<OutcomeListener> outcome_listener_;
  std::unique_ptr<Timer> deadline_;
  std::unique_ptr<Timer> report_timer_;
  std::unique_ptr<Timer> lane_timer_;
  std::unique_ptr<Timer> recovery_timer_;
  LifetimeGuard guard_;
};

}  // namespace faultline

#endif  // FAULTLINE_ENGINE_DESTINATION_SESSION_H_
