// The destination before the switch: rounds of memory come in, and what the source calls old is
// missing again before the VM is loaded.
#include <utility>

#include "engine/destination_session.h"

namespace faultline {

void DestinationSession::OnRoundReceived(uint32_t round) {
  parts_.control->Post([this, round] {
    if (step_ == Step::kReceiving) channel_->Send(RoundReceived{.round = round});
  });
}

// False if the message is none of pre-copy's, or has no place.
bool DestinationSession::HandlePreCopy(const Message& message, absl::Status* status) {
  if (!holds_device_state() || last_list_came_) return false;
  if (step_ != Step::kReceiving && step_ != Step::kLoading) return false;
  if (auto* dirty = std::get_if<StillDirty>(&message)) {
    *status = dirty_list_.Add(*dirty);
  } else if (auto* end = std::get_if<StillDirtyEnd>(&message)) {
    *status = OnStillDirtyEnd(*end);
  } else {
    return false;
  }
  return true;
}

// By way of the bulk thread, behind what it has of rounds; from the freeze on there are none.
absl::Status DestinationSession::OnStillDirtyEnd(const StillDirtyEnd& message) {
  RETURN_IF_ERROR(dirty_list_.End(message));
  last_list_came_ = frozen_;
  parts_.bulk->Post([this, runs = dirty_list_.Take(), round = message.round, last = frozen_] {
    if (absl::Status ended = last ? bulk_receiver_->EndRounds() : absl::OkStatus(); !ended.ok()) {
      return parts_.control->Post([this, ended] {
        if (step_ > Step::kLoading) return;
        Fail(Annotate(ended, peer()), PeerErrorCode::kBadMessage);
      });
    }
    parts_.demand->Post([this, runs, round, last] {
      absl::Status status = fault_handler_->MakeMissing(runs);
      parts_.control->Post([this, round, last, status] { OnMadeMissing(round, last, status); });
    });
  });
  return absl::OkStatus();
}

void DestinationSession::OnMadeMissing(uint32_t round, bool last, const absl::Status& status) {
  if (step_ != Step::kReceiving && step_ != Step::kLoading) return;
  if (!status.ok()) {
    return Fail(Annotate(status, "take pages out again that are old"), PeerErrorCode::kMemory);
  }
  channel_->Send(RoundReceived{.round = round});
  if (!last) return;
  settled_ = true;
  for (const std::vector<std::byte>& bytes : std::exchange(held_device_state_, {})) {
    parts_.vmm->FeedDeviceState(bytes);
  }
  if (step_ != Step::kLoading) return;
  parts_.vmm->EndDeviceState();
  SendLoadedIfWhole();
}

}  // namespace faultline
