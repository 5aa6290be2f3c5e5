// The source's part before the switch: what the VM's memory holds is sent while the VM runs, then
// what was written meanwhile, in rounds, for as long as that pays. In the end the destination is
// told which of it is old again.
//
// What keeps memory correct: a scan counts pages as clean before they are read for sending, so a
// page's bytes at the destination are its last ones unless a later scan reports it. Every page that
// was sent and reported since is named to the destination before it may load the VM's devices; what
// was never sent is missing there anyway.
//
// Thread safety: lives on the control executor's thread. Scans and pushes run on the bulk thread;
// who ends this object ends that thread's work first.
#ifndef FAULTLINE_ENGINE_PRE_COPY_H_
#define FAULTLINE_ENGINE_PRE_COPY_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "engine/lifetime_guard.h"
#include "engine/pusher.h"
#include "engine/round_policy.h"
#include "engine/session_report.h"
#include "engine/vcpu_throttle.h"
#include "pages/page_set.h"
#include "pages/write_history.h"
#include "protocol/messages.h"
#include "seams/dirty_tracker.h"
#include "seams/executor.h"
#include "seams/source_memory.h"
#include "seams/vmm.h"

namespace faultline {

class PreCopy {
 public:
  // What it works with; all of it outlives this object.
  struct Parts {
    Executor* control = nullptr;
    Executor* bulk = nullptr;
    SourceVmm* vmm = nullptr;
    SourceMemory* memory = nullptr;
    Pusher* pusher = nullptr;
    std::function<void(const Message&)> send;
    std::function<void(const std::string&)> notice;  // for people
  };
  struct Options {
    MigrationMode mode = MigrationMode::kHybrid;
    PreCopyBudgets budgets;
    bool guest_may_discard = false;
    bool integrity = false;
  };
  using Done = std::function<void(absl::Status)>;

  PreCopy(Parts parts, Options options, std::unique_ptr<DirtyTracker> tracker);

  // Tracks and sends until the switch is due: `done` then, or with what failed. The VM runs but for
  // the pauses that the tracker needs, and those of the throttle, if it may be slowed; unslowed
  // from `done` on.
  void Start(PushLane* lane, Done done);
  // The destination has it; InvalidArgument: it was sent nothing of the kind.
  absl::Status OnRoundReceived(const RoundReceived& received);
  // Ends the rounds soon.
  void SwitchNow();
  // Whether the VM has to be paused for a look at what it wrote.
  bool needs_paused_vm() const { return tracker_->needs_paused_vm(); }
  // The VM stands still: names what is old to the destination; `done` when that was sent.
  // Milliseconds.
  void Settle(Done done);
  // The destination has been told all, and has answered.
  bool settled() const { return step_ == Step::kSettled; }
  // Nothing is called any more. The VM stays tracked until StopTracking.
  void Leave() { stopped_ = true; }
  // Lets the VM go untracked. Takes time for each GiB; also twice. Bulk thread.
  void StopTracking() { tracker_->Stop().IgnoreError(); }
  // Both, the second one soon.
  void Stop();

  // After Settle, where it had to be read: what the VM has allocated; null otherwise.
  const AllocationMap* allocated() const { return allocated_ ? &*allocated_ : nullptr; }
  // What the destination holds; after Settle, that is the last there is of it.
  const PageSet& held() const { return held_; }
  const WriteHistory& history() const { return history_; }
  const PreCopyResult& result() const { return result_; }
  uint64_t rounds_begun() const { return rounds_begun_; }
  uint64_t throttle_percent() const { return throttle_ != nullptr ? ThrottlePercent() : 0; }

 private:
  enum class Step : uint8_t {
    kIdle,
    kArming,    // waiting for the tracker, and for what the VM has allocated
    kPushing,   // waiting for the lane to take a part of a round, then for the destination
    kScanning,  // waiting for the tracker
    kListing,   // waiting for the destination to have taken out what is old
    kReady,     // the switch is under way: what the VM writes meanwhile is named as it is found
    kSettling,  // waiting for the last scan, then for the destination
    kSettled,
  };
  // What the bulk thread found.
  struct Scan {
    absl::Status status;
    PageSet written;
    std::optional<AllocationMap> allocated;
    int64_t elapsed_us = 0;  // of the tracker's work
  };

  // Runs `work` on the bulk thread and hands what it found to `then`, unless stopped meanwhile.
  void RunOnBulk(std::function<Scan()> work, std::function<void(Scan)> then);
  // The same with the VM paused around it, if the tracker needs that.
  void RunOnStillVm(std::function<Scan()> work, std::function<void(Scan)> then);
  void RunInPause(const std::function<Scan()>& work, const std::function<void(Scan)>& then);
  Scan ScanAll(AfterScan after);  // bulk thread
  Scan LookUntilSettling();       // bulk thread
  Scan ReadAllocation();          // bulk thread
  void BeginScan(std::function<void()> then);
  // `then` once the VM runs unslowed, if it was slowed: only one may pause it.
  void Unthrottled(std::function<void()> then);
  void Tighten();
  void NoteThrottle();
  uint64_t ThrottlePercent() const;
  // Takes a scan's findings in; false: it failed, and `done_` was told.
  bool TakeIn(Scan scan);
  void TakeInAllocation(const AllocationMap& allocated);

  void BeginRound(PageSet pages);
  void PushNext(bool ends_early);
  PageSet NextPart();
  void OnPartPushed();
  void OnRoundEnded();
  void Decide(bool ended);
  RoundFacts Facts(bool ended) const;
  bool ScanIsDue() const;
  // What another round would send; the rest of what is pending is left for post-copy.
  PageSet WorthSending() const;
  uint64_t PartBytes() const;

  void Switch(SwitchReason reason);
  // Names what is old at the destination to it.
  void SendList();
  void OnListReceived();
  PageSet OldAtDestination() const;
  void BeReady();
  void Follow();
  void FollowLater();
  void Finish(absl::Status status);

  const Parts parts_;
  const Options options_;
  const MemoryLayout layout_;
  const std::unique_ptr<DirtyTracker> tracker_;  // bulk thread, but for what is constant
  RoundPolicy policy_;
  std::unique_ptr<VcpuThrottle> throttle_;  // null where the VM may not be slowed
  WriteHistory history_;
  PreCopyResult result_;
  Step step_ = Step::kIdle;
  Done done_;
  PushLane* lane_ = nullptr;
  bool asked_to_switch_ = false;
  std::optional<SwitchReason> reason_;  // decided in the middle of a round
  bool stopped_ = false;

  // Of the whole VM. What was never sent is missing at the destination, whatever they say.
  PageSet held_;                            // sent, and not named old since
  PageSet to_send_;                         // of this round, and not with the lane yet
  PageSet pending_;                         // written or given up since it was sent, or put off
  std::optional<AllocationMap> allocated_;  // as it was found last, where the guest may discard

  // The round under way, or the last one.
  uint32_t round_ = 0;  // lists count as well
  uint64_t rounds_begun_ = 0;
  uint32_t received_round_ = 0;
  bool part_ends_round_ = false;
  bool part_pushed_ = false;
  PageSet round_sent_;
  RoundReport round_report_;
  int round_parts_ = 0;
  // What the rounds before it have sent.
  uint64_t pages_before_ = 0;
  uint64_t bytes_before_ = 0;
  int64_t round_began_ns_ = 0;

  int64_t began_ns_ = 0;
  int64_t scanned_ns_ = 0;
  int64_t settle_began_ns_ = 0;
  int lists_ = 0;
  int64_t last_look_us_ = 0;  // how long it took
  int64_t ready_ns_ = 0;
  absl::Status follow_status_;
  std::atomic<bool> settling_{false};  // the last look waits for the one under way
  std::unique_ptr<Timer> follow_timer_;
  bool last_list_sent_ = false;
  LifetimeGuard guard_;
};

}  // namespace faultline

#endif  // FAULTLINE_ENGINE_PRE_COPY_H_
