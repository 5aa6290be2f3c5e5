// How the source's session ends: lost peers, cancelling, failures, and what it reports.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "engine/source_session.h"

namespace faultline {

void SourceSession::OnChannelClosed(absl::Status reason) {
  bool was_open = std::exchange(channel_open_, false);
  if (step_ == Step::kTelling && was_open) return TellOutcome();
  if (step_ >= Step::kRetiring) return;
  // A lane that broke before says more.
  if (committed()) return LoseLink(lane_failure_.ok() ? std::move(reason) : lane_failure_);
  std::string text = fmt::format("lost {}: {}", peer(), MessageOf(reason));
  Fail(absl::Status(reason.code(), text), PeerErrorCode::kInternal);
}

void SourceSession::Cancel(const std::string& reason) {
  if (step_ >= Step::kRollingBack) return;
  if (step_ == Step::kIdle) {
    cancelled_early_ = reason;
    return;
  }
  if (committed()) {
    parts_.observer->OnNotice(fmt::format(
        "{}: the VM is the destination's now and needs this side until all of its memory has "
        "followed; going on",
        reason));
    return;
  }
  Fail(absl::CancelledError(reason), PeerErrorCode::kCancelled);
}

void SourceSession::Fail(absl::Status status, PeerErrorCode code) {
  if (step_ >= Step::kRetiring) return;
  result_.status = std::move(status);
  deadline_.reset();
  lane_timer_.reset();
  retry_timer_.reset();
  recovery_timer_.reset();
  watch_.reset();
  // Before Commit was said on a connection that resumes, PeerError could be taken for a decision.
  if (channel_ != nullptr && (step_ != Step::kResuming || resuming_.welcomed)) {
    channel_->Send(PeerError{.code = code, .text = MessageOf(result_.status)});
  }
  if (committed()) return destination_awaits_word_ ? MakeSureItKnows() : End();
  if (pre_copy_ != nullptr) pre_copy_->Stop();
  step_ = Step::kRollingBack;
  parts_.vmm->Rollback(guard_.Wrap([this](absl::Status done) { OnRolledBack(done); }));
}

void SourceSession::OnRolledBack(absl::Status status) {
  if (step_ != Step::kRollingBack) return;
  if (!status.ok()) {
    result_.status = Annotate(
        result_.status,
        fmt::format("the VM could not be put back to work ({}); the cause was", MessageOf(status)));
  }
  absl::Status recorded = parts_.journal->Record(JournalPhase::kRolledBack);
  if (!recorded.ok()) parts_.observer->OnNotice(MessageOf(recorded));
  if (destination_awaits_word_) return MakeSureItKnows();
  End();
}

// The destination may hold a loaded VM and wait for the word on whose it is. It has been sent: it
// answers, or the connection was lost and it is told on a new one.
void SourceSession::MakeSureItKnows() {
  step_ = Step::kTelling;
  if (!channel_open_) return TellOutcome();
  deadline_ = parts_.control->RunAfter(options_.limits.silence_frozen_us, [this] {
    channel_open_ = false;
    TellOutcome();
  });
}

void SourceSession::NoteAnswer(const Message& message) {
  if (std::holds_alternative<Loaded>(message)) peer_loaded_ = true;
  // Goodbye answers the PeerError that followed Commit, or that came in its place. A destination
  // that gave up before it sent Loaded has ended its VM by itself.
  bool knows = std::holds_alternative<Goodbye>(message) ||
               (committed() && std::holds_alternative<Running>(message)) ||
               (!committed() && !peer_loaded_ && std::holds_alternative<PeerError>(message));
  if (!knows) return;
  destination_awaits_word_ = false;
  if (step_ == Step::kTelling) End();
}

void SourceSession::TellOutcome() {
  deadline_.reset();
  // Commit is only ever said on a connection that resumes, which this side has given up.
  if (committed()) return EndUntold();
  Hello hello;
  hello.role = ConnectionRole::kOutcome;
  hello.migration_id = options_.id;
  hello.token = token_;
  teller_ = std::make_unique<OutcomeTeller>(
      parts_.control, parts_.transport, options_.limits, hello,
      PeerError{
          .code = PeerErrorCode::kCancelled,
          .text = fmt::format("the VM stays with the source: {}", MessageOf(result_.status))});
  teller_->Start([this](bool told) {
    if (step_ != Step::kTelling) return;
    told ? End() : EndUntold();
  });
}

void SourceSession::EndUntold() {
  parts_.observer->OnNotice(
      fmt::format("the destination could not be told that the VM is the {}'s; if its QEMU is still "
                  "there, it stands paused",
                  OwnerName(result_.owner)));
  End();
}

void SourceSession::End() {
  if (step_ >= Step::kEnding) return;
  step_ = Step::kEnding;
  deadline_.reset();
  watch_.reset();
  lane_timer_.reset();
  retry_timer_.reset();
  recovery_timer_.reset();
  report_timer_.reset();
  // One after the other: the demand thread posts to the bulk thread.
  parts_.demand->Post([this, exporter = lanes_.exporter] {
    if (exporter != nullptr) exporter->Stop();
    parts_.bulk->Post([this] {
      pusher_.Stop();
      if (pre_copy_ != nullptr) pre_copy_->StopTracking();
      parts_.control->Post([this] { Finish(); });
    });
  });
}

void SourceSession::Finish() {
  result_.last = Snapshot();
  if (pre_copy_ != nullptr) result_.pre_copy = pre_copy_->result();
  step_ = Step::kEnded;
  teller_.reset();
  channel_.reset();
  EnterPhase(result_.status.ok() ? Phase::kCompleted : Phase::kFailed);
  result_.last.phase = phase_;
  done_(result_);
}

void SourceSession::Report() {
  parts_.observer->OnProgress(Snapshot());
  report_timer_ =
      parts_.control->RunAfter(options_.limits.progress_interval_us, [this] { Report(); });
}

ProgressSnapshot SourceSession::Snapshot() const {
  ProgressSnapshot snapshot;
  const int64_t now_ns = parts_.control->NowNanos();
  snapshot.phase = phase_;
  snapshot.pages_total = TotalPages(layout_);
  snapshot.bytes_total = TotalBytes(layout_);
  uint64_t data_pages = 0;
  for (const PageRangeSet& pages : map_) data_pages += pages.page_count();
  if (!map_.empty()) snapshot.pages_absent = snapshot.pages_total - data_pages;
  uint64_t to_come = map_.empty() ? snapshot.pages_total : data_pages;
  if (pre_copy_ != nullptr) {
    to_come -= std::min(to_come, pre_copy_->held().page_count());
    snapshot.pages_precopied = pre_copy_->result().pages_sent;
    snapshot.rounds = pre_copy_->rounds_begun();
    snapshot.throttle_percent = step_ == Step::kPreCopying ? pre_copy_->throttle_percent() : 0;
  }
  snapshot.pages_missing = peer_reports_ ? peer_progress_.pages_missing : to_come;
  snapshot.pages_demand = peer_progress_.pages_demand;
  snapshot.pages_pushed = peer_progress_.pages_pushed;
  snapshot.mismatches = mismatches_.count();
  snapshot.reconnects = reconnects_;
  snapshot.bytes_wire = parts_.transport->bytes_wire();
  const PackedBytes packed = parts_.transport->bytes_packed();
  snapshot.bytes_packed_in = packed.in;
  snapshot.bytes_packed_out = packed.out;
  snapshot.elapsed_us = static_cast<uint64_t>(now_ns - started_ns_) / 1000;
  if (committed_ns_ != 0) {
    snapshot.post_copy_us = static_cast<uint64_t>(now_ns - committed_ns_) / 1000;
  }
  return snapshot;
}

}  // namespace faultline
