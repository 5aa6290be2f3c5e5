// The source after the handover, when the connection to the destination was lost: it connects again
// until it succeeds, repeats Commit, hears what is missing still, and goes on with that.
#include <fmt/format.h>

#include <utility>

#include "engine/source_session.h"

namespace faultline {

void SourceSession::LoseLink(absl::Status reason) {
  const bool is_news = step_ != Step::kResuming;
  step_ = Step::kReconnecting;
  lane_failure_ = absl::OkStatus();
  lane_timer_.reset();
  watch_.reset();
  channel_.reset();
  channel_open_ = false;
  lanes_up_ = false;
  pushing_ = false;
  destination_has_map_ = false;  // it says so when it is back
  if (is_news) {
    lost_at_ns_ = parts_.control->NowNanos();
    parts_.observer->OnNotice(
        fmt::format("lost {}: {}; connecting again. The VM runs there until it needs a page that "
                    "has not arrived",
                    peer(), MessageOf(reason)));
    EnterPhase(Phase::kReconnecting);
    LimitRecovery();
  } else {
    NoteFailedTry(reason);
  }
  // One after the other: the demand thread posts to the bulk thread. What a lane had to say before
  // it stopped comes before the end of this, and means nothing any more.
  parts_.demand->Post([this, exporter = std::exchange(lanes_.exporter, nullptr)] {
    if (exporter != nullptr) exporter->Stop();
    parts_.bulk->Post([this] {
      pusher_.Stop();
      parts_.control->Post([this] { TryLater(); });
    });
  });
}

void SourceSession::TakeUp() {
  token_ = options_.resume->token;
  was_running_ = options_.resume->run;
  committed_ns_ = parts_.control->NowNanos();
  frozen_ns_ = committed_ns_;  // the downtime is the other side's to tell
  lost_at_ns_ = committed_ns_;
  destination_awaits_word_ = true;
  step_ = Step::kReconnecting;
  LimitRecovery();
  TryLater();
}

void SourceSession::LimitRecovery() {
  const int64_t limit_us = options_.limits.recovery_timeout_us;
  if (limit_us == 0) return;
  recovery_timer_ = parts_.control->RunAfter(limit_us, [this, limit_us] {
    std::string cause = last_try_.empty() ? "" : fmt::format(" ({})", last_try_);
    Fail(absl::DeadlineExceededError(fmt::format("{} could not be reached again within {:.1f} s{}",
                                                 peer(), static_cast<double>(limit_us) / 1e6,
                                                 cause)),
         PeerErrorCode::kTimeout);
  });
}

// The same reason is told once.
void SourceSession::NoteFailedTry(const absl::Status& reason) {
  if (last_try_ == MessageOf(reason)) return;
  last_try_ = MessageOf(reason);
  parts_.observer->OnNotice(
      fmt::format("connecting again to {}: {}; trying on", peer(), last_try_));
}

void SourceSession::TryLater() {
  if (step_ != Step::kReconnecting) return;
  retry_timer_ = parts_.control->RunAfter(back_off_.Next(), [this] {
    Hello hello;
    hello.role = ConnectionRole::kResume;
    hello.migration_id = options_.id;
    hello.token = token_;
    hello.integrity = integrity_wish_;
    parts_.transport->Connect(
        hello, options_.limits.reconnect_try_us,
        guard_.Wrap([this](auto channel) { OnReconnected(std::move(channel)); }));
  });
}

void SourceSession::OnReconnected(absl::StatusOr<std::unique_ptr<ControlChannel>> channel) {
  if (step_ != Step::kReconnecting) return;
  if (!channel.ok()) {
    NoteFailedTry(channel.status());
    return TryLater();
  }
  step_ = Step::kResuming;
  resuming_ = {};
  missing_ = std::make_unique<MissingPages>(layout_);
  TakeChannel(std::move(channel).value(), options_.limits.silence_post_copy_us);
}

// Messages that have their place on a resumed connection only; false if this one is none of them.
bool SourceSession::HandleResuming(const Message& message) {
  if (auto* error = std::get_if<PeerError>(&message); error && !resuming_.welcomed) {
    // Somebody else listens there, or it has not been started again in the right way yet.
    LoseLink(absl::UnavailableError(error->text));
    return true;
  }
  if (auto* welcome = std::get_if<Welcome>(&message); welcome && !resuming_.welcomed) {
    if (absl::Status agreed = AgreeOn(*welcome); !agreed.ok()) {
      LoseLink(agreed);
      return true;
    }
    resuming_.welcomed = true;
    SendCommit();
    return true;
  }
  if (!resuming_.welcomed || resuming_.list_ended) return false;
  absl::Status status;
  if (auto* missing = std::get_if<StillMissing>(&message)) {
    status = missing_->Add(*missing);
  } else if (auto* end = std::get_if<StillMissingEnd>(&message)) {
    status = missing_->End(*end);
    if (status.ok()) OnMissingKnown(*end);
  } else {
    return false;
  }
  if (!status.ok()) Fail(Annotate(status, peer()), PeerErrorCode::kBadMessage);
  return true;
}

void SourceSession::OnMissingKnown(const StillMissingEnd& end) {
  resuming_.list_ended = true;
  destination_awaits_word_ = false;
  destination_has_map_ = end.map_complete;
  // Whatever is wrong with the link, pages get through: no reason to wait long the next time. If it
  // is the same page again and again, the others can wait.
  if (end.missing_pages < missing_before_ && !mismatches_.repeats()) back_off_.Reset();
  missing_before_ = end.missing_pages;
  LaneTerms terms = Terms();
  terms.handed_over = true;
  parts_.transport->OpenLanes(
      terms, options_.limits.connect_timeout_us,
      guard_.Wrap([this](auto lanes) { OnLanesReopened(std::move(lanes)); }));
}

void SourceSession::OnLanesReopened(absl::StatusOr<SourceTransport::Lanes> lanes) {
  // Those of a try before this one may come late: this one has not asked yet.
  if (step_ != Step::kResuming || !resuming_.list_ended) return;
  if (!lanes.ok()) return LoseLink(lanes.status());
  lanes_ = *lanes;
  lanes_up_ = true;
  ++reconnects_;
  recovery_timer_.reset();
  last_try_.clear();
  parts_.demand->Post([this, exporter = lanes_.exporter] { exporter->Start(memory_.get(), this); });
  step_ = destination_runs_ ? Step::kRunning : Step::kCommitted;
  parts_.observer->OnNotice(fmt::format(
      "connected again to {} after {:.1f} s; {} pages are missing there", peer(),
      static_cast<double>(parts_.control->NowNanos() - lost_at_ns_) / 1e9, missing_before_));
  EnterPhase(destination_runs_ ? Phase::kPostCopy : Phase::kHandingOver);
  PushIfReady();
}

}  // namespace faultline
