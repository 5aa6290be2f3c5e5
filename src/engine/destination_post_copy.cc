// The destination's session from the handover to the last page.
#include <fmt/format.h>

#include <utility>

#include "engine/destination_session.h"
#include "engine/durable_record.h"

namespace faultline {

void DestinationSession::OnCommit(const Commit& commit) {
  committed_ns_ = parts_.control->NowNanos();
  source_downtime_us_ = commit.downtime_us;
  step_ = Step::kTakingOver;
  watch_->SetSilenceMax(options_.limits.silence_post_copy_us);
  result_.owner = VmOwner::kDestination;
  if (absl::Status status = parts_.journal->Record(JournalPhase::kCommitted); !status.ok()) {
    parts_.observer->OnNotice("the handover could not be recorded here: " + MessageOf(status));
  }
  const bool run = commit.run && broken_.ok();
  parts_.vmm->TakeOver(run, guard_.Wrap([this, run](absl::Status status) {
    vm_runs_ = run && status.ok();
    OnTakenOver(status);
  }));
  if (!broken_.ok()) return LimitTakeOver();
  if (!lane_failure_.ok()) return LoseLink(lane_failure_);
  if (lanes_up_) return;
  // It came on a connection that is made again, and may be lost as well before the lanes join.
  if (phase_ != Phase::kReconnecting) EnterPhase(Phase::kReconnecting);
  LimitRecovery();
}

// Where its memory cannot be brought in, the VM may hang in the middle of being taken over.
void DestinationSession::LimitTakeOver() {
  deadline_ = parts_.control->RunAfter(options_.limits.handover_timeout_us, [this] {
    OnTakenOver(absl::DeadlineExceededError("the VMM does not answer"));
  });
}

void DestinationSession::OnTakenOver(absl::Status status) {
  if (step_ != Step::kTakingOver) return;
  step_ = Step::kRunning;
  deadline_.reset();
  if (!status.ok()) {
    // The VM is here and nowhere else: its memory is brought in all the same.
    result_.status = Annotate(status, "the VM is here, but could not be started");
    parts_.observer->OnNotice(MessageOf(result_.status));
  }
  const int64_t now_ns = parts_.control->NowNanos();
  result_.downtime_us = source_downtime_us_ + static_cast<uint64_t>(now_ns - committed_ns_) / 1000;
  if (lanes_up_) EnterPhase(Phase::kPostCopy);
  if (!broken_.ok()) return Fail(broken_, PeerErrorCode::kMemory);
  // On a connection that is made again it is said in its place.
  if (lanes_up_ || resumed_.told) channel_->Send(Running{.downtime_us = result_.downtime_us});
  MakeDurableBeside(parts_.bulk, parts_.control, parts_.journal, parts_.observer);
  UpdatePause();
  CompleteIfPresent();
}

void DestinationSession::OnAllPresent() {
  parts_.control->Post([this] {
    all_present_ = true;
    CompleteIfPresent();
  });
}

void DestinationSession::OnPushFinished() {
  parts_.demand->Post([this] { fault_handler_->FetchRest(); });
}

void DestinationSession::OnOutOfMemory(bool out) {
  parts_.control->Post([this, out] {
    lanes_out_of_memory_ += out ? 1 : -1;
    // In a round: the VM is better off where it runs than waiting for this host to have room.
    if (out && pre_copy_ && !frozen_ && step_ <= Step::kReceiving) {
      return Fail(absl::ResourceExhaustedError(
                      "this host has no memory left for the VM's: make room for all of it, and "
                      "migrate again"),
                  PeerErrorCode::kMemory);
    }
    UpdatePause();
  });
}

// Pauses the VM while one of the lanes has no memory to put pages into. One call at a time; a VM
// that its operator paused is left alone.
void DestinationSession::UpdatePause() {
  const bool wanted = step_ == Step::kRunning && lanes_out_of_memory_ > 0;
  if (pause_under_way_ || !vm_runs_ || wanted == paused_for_memory_) return;
  if (step_ != Step::kRunning && step_ != Step::kClosing) return;
  pause_under_way_ = true;
  paused_for_memory_ = wanted;
  parts_.observer->OnNotice(wanted ? "this host has no memory left for the VM: it is paused until "
                                     "there is room again"
                                   : "there is room again: the VM goes on");
  parts_.vmm->SetPaused(wanted, guard_.Wrap([this](absl::Status status) {
    if (!status.ok()) {
      parts_.observer->OnNotice(MessageOf(status));
      if (!paused_for_memory_) result_.status = Annotate(status, "the VM is here, paused");
    }
    pause_under_way_ = false;
    UpdatePause();
    ReleaseMemory();
  }));
}

void DestinationSession::OnLaneFailed(absl::Status status) {
  parts_.control->Post(
      [this, status] { FailLanes(status, options_.limits.lane_failure_grace_us); });
}

void DestinationSession::FailLanes(const absl::Status& status, int64_t grace_us) {
  if (!lanes_up_ || !lane_failure_.ok() || step_ >= Step::kClosing) return;
  lane_failure_ = status;
  lane_timer_ = parts_.control->RunAfter(grace_us, [this] {
    if (step_ == Step::kUndecided) return;  // the source decides, which may have seen it too
    if (owned()) return LoseLink(lane_failure_);
    Fail(lane_failure_, PeerErrorCode::kInternal);
  });
}

void DestinationSession::OnMismatch(PageRun run) {
  parts_.control->Post([this, run] {
    const absl::Status status = mismatches_.Note(vm_.layout(), run);
    // The source's people are to know why the lane breaks, too.
    if (lanes_up_ && owned() && step_ < Step::kClosing) channel_->Send(Mismatch{run});
    // This side knows the reason. Before the handover it is the one that says it; after it the
    // other lane may go on meanwhile.
    FailLanes(status, owned() ? options_.limits.lane_failure_grace_us : 0);
  });
}

void DestinationSession::OnTransferFailed(absl::Status status) {
  parts_.control->Post([this, status] { Fail(status, PeerErrorCode::kMemory); });
}

void DestinationSession::CompleteIfPresent() {
  if (step_ != Step::kRunning || !all_present_) return;
  // What was all there before the switch may have been made missing again since.
  if (memory_ != nullptr && memory_->table().missing_pages() != 0) {
    all_present_ = false;
    return;
  }
  step_ = Step::kClosing;
  if (committed_ns_ != 0) {
    result_.total_us = static_cast<uint64_t>(parts_.control->NowNanos() - committed_ns_) / 1000;
  }
  UpdatePause();
  ReleaseMemory();
}

// Not before the VM does what it should: from the record on all that is left is to tell the source,
// whoever does it.
void DestinationSession::ReleaseMemory() {
  if (step_ != Step::kClosing || pause_under_way_) return;
  // One that could not be started is tried again by the next process, if there is one.
  if (result_.status.ok()) RecordOrSay(JournalPhase::kWhole);
  if (memory_ == nullptr) return OnDisarmed(std::string());  // one before has done it
  const int64_t settle_us = vm_.guest_may_discard ? options_.limits.discard_settle_us : 0;
  deadline_ = parts_.control->RunAfter(settle_us, [this] {
    parts_.demand->Post([this] {
      parts_.control->Post([this, let_go = fault_handler_->Disarm()] { OnDisarmed(let_go); });
    });
  });
}

void DestinationSession::OnDisarmed(const absl::StatusOr<std::string>& let_go) {
  disarmed_ = let_go.ok();
  if (disarmed_ && !let_go->empty()) parts_.observer->OnNotice(*let_go);
  if (disarmed_ && result_.status.ok()) RecordOrSay(JournalPhase::kReleased);
  parts_.vmm->Finish(guard_.Wrap(
      [this, kept = let_go.status()](absl::Status finished) { OnVmLeft(kept, finished); }));
}

// `kept`: why its memory could not be let go.
void DestinationSession::OnVmLeft(const absl::Status& kept, const absl::Status& finished) {
  if (absl::IsUnavailable(finished)) {
    parts_.observer->OnNotice(
        fmt::format("all of the VM's memory had arrived here, and its process has ended since ({})",
                    MessageOf(finished)));
  } else if (!finished.ok()) {
    parts_.observer->OnNotice(MessageOf(finished));
  }
  if (!kept.ok() && !absl::IsUnavailable(finished)) {
    result_.status = Annotate(
        kept, fmt::format("the VM is here with all its memory, but its process may wait still for "
                          "pages that it never had ('faultline receive --resume {}' lets them go)",
                          result_.migration_id));
  }
  Part();
}

// Nothing more is needed from the source, but it is told so.
void DestinationSession::Part() {
  step_ = Step::kParting;
  if (lanes_up_ || resumed_.told) return SendEnd();
  LimitParting();
}

void DestinationSession::SendEnd() {
  if (!result_.status.ok()) {
    // Where somebody has to let the memory go, this is not the end, for the source neither.
    channel_->Send(PeerError{.code = disarmed_ ? PeerErrorCode::kVmm : PeerErrorCode::kMemory,
                             .text = MessageOf(result_.status)});
    if (disarmed_) RecordOrSay(JournalPhase::kCompleted);
    return End();
  }
  deadline_ = parts_.control->RunAfter(options_.limits.goodbye_timeout_us, [this] { End(); });
  channel_->Send(Completed{.pages_demand = counters_.pages_demand.load(std::memory_order_relaxed),
                           .pages_pushed = counters_.pages_pushed.load(std::memory_order_relaxed),
                           .total_us = result_.total_us});
}

}  // namespace faultline
