// How the destination's session ends: lost peers, cancelling, failures, and what it reports.
#include <fmt/format.h>

#include <utility>

#include "engine/destination_session.h"

namespace faultline {

void DestinationSession::OnChannelClosed(absl::Status reason) {
  if (step_ >= Step::kDiscarding) return;
  if (step_ >= Step::kUndecided) return LoseLink(reason);
  watch_.reset();
  channel_.reset();
  Fail(absl::Status(reason.code(), fmt::format("lost {}: {}", peer(), MessageOf(reason))),
       PeerErrorCode::kInternal);
}

// Before the handover this is the decision: the VM is the source's.
void DestinationSession::OnSourceGaveUp(const PeerError& error) {
  absl::Status status = absl::AbortedError(fmt::format("{} gave up: {}", peer(), error.text));
  if (step_ != Step::kUndecided) return Fail(status, error.code);
  result_.status = broken_.ok() ? status : broken_;
  result_.owner = VmOwner::kSource;
  RecordOrSay(JournalPhase::kRolledBack);
  DiscardVm();
}

// What was done stands all the same; whoever comes later knows less.
void DestinationSession::RecordOrSay(JournalPhase phase) {
  if (absl::Status recorded = parts_.journal->Record(phase); !recorded.ok()) {
    parts_.observer->OnNotice(MessageOf(recorded));
  }
}

DestinationSession::OutcomeListener::OutcomeListener(DestinationSession* session,
                                                     std::unique_ptr<ControlChannel> channel)
    : session_(session), channel_(std::move(channel)) {
  channel_->Start(this);
}

void DestinationSession::OutcomeListener::OnMessage(Message message) {
  session_->OnOutcome(message);
  channel_->Send(Goodbye{});
}

void DestinationSession::OutcomeListener::OnChannelClosed(absl::Status) {}

// Whoever knows the token is the source, and it speaks on a new connection only after it gave the
// first one up. It may have to say it again where its word was heard, but not this side's answer.
void DestinationSession::OnOutcome(const Message& outcome) {
  auto* error = std::get_if<PeerError>(&outcome);
  if (error == nullptr || owned() || step_ >= Step::kDiscarding) return;
  watch_.reset();
  channel_.reset();
  OnSourceGaveUp(*error);
}

void DestinationSession::Cancel(const std::string& reason) {
  if (step_ == Step::kMakingHuge) result_.huge_pages->cut_short = true;
  if (step_ >= Step::kDiscarding) return;
  if (step_ == Step::kIdle) {
    cancelled_early_ = reason;
    return;
  }
  if (owned()) {
    parts_.observer->OnNotice(
        fmt::format("{}: the VM runs here now and needs this command until all of its memory has "
                    "come; going on",
                    reason));
    return;
  }
  if (step_ == Step::kUndecided && channel_ != nullptr && !source_silent_) {
    parts_.observer->OnNotice(
        fmt::format("{}: the source is deciding whose the VM is; cancel there", reason));
    return;
  }
  Fail(absl::CancelledError(reason), PeerErrorCode::kCancelled);
  if (step_ == Step::kUndecided) End();
}

void DestinationSession::Fail(absl::Status status, PeerErrorCode code) {
  if (step_ >= Step::kClosing) return;
  lane_timer_.reset();
  recovery_timer_.reset();
  if (broken_.ok()) broken_ = std::move(status);
  result_.status = broken_;
  if (channel_ != nullptr) {
    channel_->Send(PeerError{.code = code, .text = MessageOf(result_.status)});
  }
  // The source has been told; what it decides comes as a message.
  if (step_ == Step::kUndecided && !owned()) return;
  if (step_ == Step::kTakingOver) return LimitTakeOver();
  // A VM that another process has loaded is not thrown away for what this one cannot do.
  if (owned() || options_.resume.has_value()) return End();
  DiscardVm();
}

void DestinationSession::DiscardVm() {
  step_ = Step::kDiscarding;
  deadline_.reset();
  watch_.reset();
  parts_.vmm->Discard(guard_.Wrap([this](absl::Status status) {
    if (step_ != Step::kDiscarding) return;
    if (!status.ok()) {
      parts_.observer->OnNotice("the destination's VM could not be ended: " + MessageOf(status));
    }
    RecordOrSay(JournalPhase::kRolledBack);
    End();
  }));
}

void DestinationSession::End() {
  if (step_ >= Step::kEnding) return;
  step_ = Step::kEnding;
  deadline_.reset();
  watch_.reset();
  lane_timer_.reset();
  recovery_timer_.reset();
  report_timer_.reset();
  // One after the other: the bulk thread posts to the demand thread.
  parts_.bulk->Post([this] {
    if (bulk_receiver_ != nullptr) bulk_receiver_->Stop();
    parts_.demand->Post([this] {
      if (fault_handler_ != nullptr) {
        // A VM that ends here needs nothing more. One that is this side's, or may be, waits on.
        if (result_.owner == VmOwner::kSource) fault_handler_->Disarm().IgnoreError();
        fault_handler_->Stop();
      }
      parts_.control->Post([this] { OnLanesStopped(); });
    });
  });
}

// The source has been let go, and the VM has all that it needs: from here on it is about comfort.
void DestinationSession::OnLanesStopped() {
  if (!options_.huge_pages || !disarmed_ || !result_.status.ok()) return Finish();
  if (memory_ != nullptr) huge_pages_ = memory_->MakeHugePageMaker();
  if (huge_pages_ == nullptr) return Finish();
  step_ = Step::kMakingHuge;
  channel_.reset();
  outcome_listener_.reset();
  result_.huge_pages.emplace();
  huge_pages_began_ns_ = parts_.control->NowNanos();
  MakeNextHuge();
}

// On a lane's thread, which has nothing else to do any more, so that this one hears of a Cancel.
void DestinationSession::MakeNextHuge() {
  parts_.bulk->Post(
      [this] { parts_.control->Post([this, made = huge_pages_->Step()] { OnMadeHuge(made); }); });
}

void DestinationSession::OnMadeHuge(const HugePageStep& made) {
  result_.huge_pages->bytes += made.bytes_made;
  for (const std::string& notice : made.notices) parts_.observer->OnNotice(notice);
  if (!made.done && !result_.huge_pages->cut_short) return MakeNextHuge();
  const int64_t elapsed_ns = parts_.control->NowNanos() - huge_pages_began_ns_;
  result_.huge_pages->elapsed_us = static_cast<uint64_t>(elapsed_ns) / 1000;
  Finish();
}

void DestinationSession::Finish() {
  result_.last = Snapshot();
  result_.rails = parts_.transport->rails();
  // Which of the two modes it was only the source knows.
  if (pre_copy_) result_.mode = MigrationMode::kHybrid;
  result_.fault_latency_us = counters_.fault_latency_us.Summarize();
  const FaultStages& stages = counters_.fault_stages;
  result_.fault_stages = {stages.read_to_sent_ns.Summarize(),
                          stages.sent_to_answered_ns.Summarize(),
                          stages.answered_to_installed_ns.Summarize()};
  step_ = Step::kEnded;
  outcome_listener_.reset();
  channel_.reset();
  EnterPhase(result_.status.ok() ? Phase::kCompleted : Phase::kFailed);
  result_.last.phase = phase_;
  done_(result_);
}

void DestinationSession::Report() {
  ProgressSnapshot snapshot = Snapshot();
  parts_.observer->OnProgress(snapshot);
  if (step_ == Step::kRunning && lanes_up_) {
    channel_->Send(Progress{.pages_missing = snapshot.pages_missing,
                            .pages_demand = snapshot.pages_demand,
                            .pages_pushed = snapshot.pages_pushed});
  }
  report_timer_ =
      parts_.control->RunAfter(options_.limits.progress_interval_us, [this] { Report(); });
}

ProgressSnapshot DestinationSession::Snapshot() const {
  ProgressSnapshot snapshot;
  const int64_t now_ns = parts_.control->NowNanos();
  const MemoryLayout layout = vm_.layout();
  snapshot.phase = phase_;
  snapshot.pages_total = TotalPages(layout);
  snapshot.bytes_total = TotalBytes(layout);
  if (map_complete_) snapshot.pages_absent = snapshot.pages_total - data_pages_;
  snapshot.pages_missing =
      memory_ != nullptr ? memory_->table().missing_pages() : snapshot.pages_total;
  snapshot.pages_demand = counters_.pages_demand.load(std::memory_order_relaxed);
  snapshot.pages_pushed = counters_.pages_pushed.load(std::memory_order_relaxed);
  snapshot.pages_precopied = counters_.pages_precopied.load(std::memory_order_relaxed);
  snapshot.pages_discarded = counters_.pages_discarded.load(std::memory_order_relaxed);
  snapshot.faults = counters_.faults.load(std::memory_order_relaxed);
  snapshot.mismatches = mismatches_.count();
  snapshot.reconnects = reconnects_;
  snapshot.bytes_wire = parts_.transport->bytes_wire();
  snapshot.elapsed_us = static_cast<uint64_t>(now_ns - started_ns_) / 1000;
  if (committed_ns_ != 0) {
    snapshot.post_copy_us = static_cast<uint64_t>(now_ns - committed_ns_) / 1000;
  }
  return snapshot;
}

}  // namespace faultline
