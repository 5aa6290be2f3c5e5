// The destination after Loaded, when the connection to the source was lost: it waits for the source
// to come back, tells it what is missing still, and goes on with that.
#include <fmt/format.h>

#include <utility>

#include "engine/destination_session.h"
#include "engine/missing_pages.h"
#include "protocol/codec.h"

namespace faultline {

// By value: what is given may be the lane failure that ends here.
void DestinationSession::LoseLink(absl::Status reason) {
  const bool is_news = lanes_up_;
  watch_.reset();
  lane_timer_.reset();
  // A source that was told of a page that changed may break off before this side does: that page is
  // the reason all the same.
  if (absl::IsDataLoss(lane_failure_)) reason = lane_failure_;
  lane_failure_ = absl::OkStatus();
  channel_.reset();
  resumed_ = {};
  // Each loss has the whole time: a source that had come back is there to come back again.
  if (step_ == Step::kParting) LimitParting();
  if (!is_news) return;  // a try to connect again that failed
  lost_at_ns_ = parts_.control->NowNanos();
  lanes_up_ = false;
  lanes_stopping_ = true;
  // One after the other: the bulk thread posts to the demand thread. What a lane had to say before
  // it stopped comes before the end of this, and means nothing any more.
  parts_.bulk->Post([this] {
    bulk_receiver_->Stop();
    parts_.demand->Post([this] {
      fault_handler_->Disconnect();
      parts_.control->Post([this] {
        lanes_stopping_ = false;
        TellMissing();
      });
    });
  });
  if (step_ >= Step::kClosing) return;
  if (!owned()) return NoticeUndecided(reason);
  parts_.observer->OnNotice(
      fmt::format("lost {}: {}; waiting for it to connect again. The VM runs until it needs a page "
                  "that has not arrived",
                  peer(), MessageOf(reason)));
  EnterPhase(Phase::kReconnecting);
  LimitRecovery();
}

// The memory first: whoever waits for a page that is here already, or is zero, goes on at once.
void DestinationSession::TakeUp() {
  absl::Status status = TakeMemoryOver();
  if (status.ok()) return ConnectAgain();
  if (options_.resume->whole) return SeeWhetherVmEnded(status);
  Fail(std::move(status), PeerErrorCode::kMemory);
}

// All of its memory was here, so what became of the VM afterwards is no matter of the migration's:
// if its process has ended there is nothing to let go, and the source is told.
void DestinationSession::SeeWhetherVmEnded(const absl::Status& reason) {
  parts_.vmm->Finish(guard_.Wrap([this, reason](absl::Status finished) {
    if (step_ != Step::kDescribing) return;
    if (!absl::IsUnavailable(finished)) return Fail(reason, PeerErrorCode::kMemory);
    ConnectAgain();
  }));
}

void DestinationSession::ConnectAgain() {
  map_cursor_.assign(vm_.regions.size(), 0);
  frozen_ = true;
  if (absl::Status status = Listen(); !status.ok()) {
    return Fail(std::move(status), PeerErrorCode::kPrepare);
  }
  step_ = Step::kUndecided;  // Commit is said again, and tells whether the VM is to run
  lost_at_ns_ = parts_.control->NowNanos();
  parts_.observer->OnListening(parts_.transport->address());
  EnterPhase(Phase::kReconnecting);
  Report();
  if (options_.resume->whole) {
    step_ = Step::kRunning;
    all_present_ = true;
    return CompleteIfPresent();
  }
  if (owned()) return LimitRecovery();
  NoticeUndecided(absl::UnavailableError("the command was started again"));
}

absl::Status DestinationSession::TakeMemoryOver() {
  if (options_.resume->released) return absl::OkStatus();
  ASSIGN_OR_RETURN(memory_, parts_.memory_factory->TakeOver(vm_));
  if (memory_ != nullptr) {
    MakeLaneEnds();
    parts_.demand->Post([this] { fault_handler_->Start(); });
    return absl::OkStatus();
  }
  if (options_.resume->whole) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "the VM's memory is not armed here: the VM that was being migrated has ended, and something "
      "else has its place");
}

void DestinationSession::LimitRecovery() {
  const int64_t limit_us = options_.limits.recovery_timeout_us;
  if (limit_us == 0) return;
  recovery_timer_ = parts_.control->RunAfter(limit_us, [this, limit_us] {
    Fail(absl::DeadlineExceededError(fmt::format("{} did not connect again within {:.1f} s", peer(),
                                                 static_cast<double>(limit_us) / 1e6)),
         PeerErrorCode::kTimeout);
  });
}

// Everything is here: the source is waited for only so that it learns that.
void DestinationSession::LimitParting() {
  deadline_ = parts_.control->RunAfter(options_.limits.parting_timeout_us, [this] {
    parts_.observer->OnNotice(fmt::format(
        "{} does not connect again: it cannot be told that all memory has arrived here. If "
        "'faultline migrate' runs there still, 'faultline receive --resume {}' tells it, or it may "
        "be ended",
        peer(), result_.migration_id));
    End();
  });
}

// Whoever knows the token is the source: a connection that it opens replaces the one that this side
// may still believe in.
void DestinationSession::OnResume(const Hello& hello, std::unique_ptr<ControlChannel> channel) {
  if (!AgreeOn(hello, channel.get())) return;
  if (channel_ != nullptr || lanes_up_) {
    LoseLink(absl::UnavailableError("it has connected anew"));
  }
  TakeChannel(std::move(channel), options_.limits.silence_post_copy_us);
  resumed_.connected = true;
  channel_->Send(Welcome{
      .version = kProtocolVersionMax, .token = options_.token, .integrity = result_.integrity});
  channel_->Start(this);
}

// Once the source has said Commit on the new connection and the old lanes are at rest, so that what
// is told missing stays so.
void DestinationSession::TellMissing() {
  if (!resumed_.committed || resumed_.told || lanes_stopping_) return;
  resumed_.told = true;
  if (step_ >= Step::kRunning) channel_->Send(Running{.downtime_us = result_.downtime_us});
  if (step_ == Step::kClosing) return;  // Completed follows
  if (step_ == Step::kParting) return SendEnd();
  if (!map_complete_) ForgetMap();
  parts_.transport->ExpectLanes(
      Terms(), options_.limits.connect_timeout_us,
      guard_.Wrap([this](auto lanes) { OnLanesJoinedAgain(std::move(lanes)); }));
  const uint64_t pages =
      TellMissingPages(memory_->table(), kRangesPerMessageMax,
                       [this](const StillMissing& message) { channel_->Send(message); });
  channel_->Send(StillMissingEnd{.missing_pages = pages, .map_complete = map_complete_});
}

void DestinationSession::OnLanesJoinedAgain(absl::StatusOr<DestinationTransport::Lanes> lanes) {
  if (!resumed_.told || step_ >= Step::kClosing) return;
  if (!lanes.ok()) return LoseLink(lanes.status());
  resumed_ = {};
  ++reconnects_;
  recovery_timer_.reset();
  UseLanes(*lanes);
  parts_.observer->OnNotice(
      fmt::format("connected again to {} after {:.1f} s; {} pages are missing", peer(),
                  static_cast<double>(parts_.control->NowNanos() - lost_at_ns_) / 1e9,
                  memory_->table().missing_pages()));
  EnterPhase(step_ == Step::kRunning ? Phase::kPostCopy : Phase::kHandingOver);
}

}  // namespace faultline
