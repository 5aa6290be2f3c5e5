// The source's session before the switch, where memory is sent while the VM runs.
#include <fmt/format.h>

#include <utility>

#include "engine/source_session.h"

namespace faultline {

absl::Status SourceSession::OpenTracker() {
  if (options_.mode == MigrationMode::kPostCopy || options_.resume.has_value()) {
    return absl::OkStatus();
  }
  if (parts_.tracker_factory == nullptr) {
    return absl::FailedPreconditionError(
        fmt::format("this VM's writes cannot be tracked, which mode '{}' needs; 'postcopy' does "
                    "not need it",
                    ModeName(options_.mode)));
  }
  ASSIGN_OR_RETURN(tracker_, parts_.tracker_factory->Open(vm_));
  return absl::OkStatus();
}

void SourceSession::StartPreCopy() {
  step_ = Step::kPreCopying;
  EnterPhase(Phase::kPreCopy);
  pre_copy_ = std::make_unique<PreCopy>(
      PreCopy::Parts{
          .control = parts_.control,
          .bulk = parts_.bulk,
          .vmm = parts_.vmm,
          .memory = memory_.get(),
          .pusher = &pusher_,
          .send = [this](const Message& message) { channel_->Send(message); },
          .notice = [this](const std::string& text) { parts_.observer->OnNotice(text); }},
      PreCopy::Options{.mode = options_.mode,
                       .budgets = options_.budgets,
                       .guest_may_discard = vm_.guest_may_discard,
                       .integrity = result_.integrity},
      std::move(tracker_));
  if (switch_asked_) pre_copy_->SwitchNow();
  pre_copy_->Start(lanes_.push, guard_.Wrap([this](absl::Status status) {
    if (step_ != Step::kPreCopying) return;
    if (!status.ok()) return Fail(Annotate(status, "pre-copy"), PeerErrorCode::kMemory);
    Freeze();
  }));
}

void SourceSession::SwitchNow() {
  if (step_ > Step::kPreCopying || options_.mode == MigrationMode::kPostCopy) {
    return parts_.observer->OnNotice("the switch is under way already, or was: nothing to hurry");
  }
  switch_asked_ = true;
  if (pre_copy_ != nullptr) pre_copy_->SwitchNow();
}

void SourceSession::OnRoundReceived(const RoundReceived& received) {
  absl::Status status = pre_copy_->OnRoundReceived(received);
  if (!status.ok()) Fail(Annotate(status, peer()), PeerErrorCode::kBadMessage);
}

// What was plugged in since may have written memory that was counted as clean.
absl::Status SourceSession::CheckStillTracked(const VmDescription& vm) const {
  if (pre_copy_ == nullptr) return absl::OkStatus();
  if (!vm.untrackable.empty()) return absl::FailedPreconditionError(vm.untrackable);
  if (!vm.direct_io || vm_.direct_io) return absl::OkStatus();
  return absl::AbortedError(
      "a disk with direct I/O was plugged in while the VM's writes were tracked, and may have "
      "written memory unseen: migrate again, and leave the VM's disks alone meanwhile");
}

// The devices are saved meanwhile.
void SourceSession::SettlePreCopy() {
  pre_copy_->Settle(guard_.Wrap([this](absl::Status status) {
    if (step_ != Step::kSaving && step_ != Step::kLoading) return;
    if (!status.ok()) {
      return Fail(Annotate(status, "see what the VM wrote last"), PeerErrorCode::kMemory);
    }
    if (pre_copy_->allocated() != nullptr) map_ = *pre_copy_->allocated();
  }));
}

}  // namespace faultline
