#include "engine/source_session.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/text.h"
#include "protocol/codec.h"
#include "protocol/handshake.h"

namespace faultline {

SourceSession::SourceSession(Parts parts, Options options)
    : parts_(std::move(parts)),
      options_(std::move(options)),
      pusher_(std::move(parts_.push_order),
              [this](absl::Status status) {
                parts_.control->Post([this, status] { OnLaneFailed(status); });
              }),
      integrity_wish_(options_.integrity),
      back_off_(options_.limits.reconnect_pause_first_us, options_.limits.reconnect_pause_max_us) {
  result_.migration_id = HexEncode(options_.id);
  result_.transport = parts_.transport->name();
  result_.mode = options_.mode;
}

void SourceSession::Start(Done done) {
  FAULTLINE_CHECK(step_ == Step::kIdle);
  done_ = std::move(done);
  started_ns_ = parts_.control->NowNanos();
  EnterPhase(options_.resume.has_value() ? Phase::kReconnecting : Phase::kConnecting);
  Report();
  step_ = Step::kDescribing;
  if (options_.resume.has_value()) {
    result_.owner = VmOwner::kDestination;
  } else if (absl::Status status = parts_.journal->Record(JournalPhase::kPreparing); !status.ok()) {
    Fail(Annotate(status, "write the journal"), PeerErrorCode::kInternal);
    return;
  }
  parts_.vmm->Prepare(guard_.Wrap([this](auto vm) { OnDescribed(std::move(vm)); }));
  if (!cancelled_early_.empty()) Cancel(cancelled_early_);
}

std::string SourceSession::peer() const {
  return peer_name_.empty() ? "the destination" : "the destination at " + peer_name_;
}

void SourceSession::EnterPhase(Phase phase) {
  phase_ = phase;
  parts_.observer->OnPhase(phase, result_.migration_id);
}

void SourceSession::OnDescribed(absl::StatusOr<VmDescription> vm) {
  if (step_ != Step::kDescribing) return;
  if (!vm.ok()) return Fail(vm.status(), PeerErrorCode::kPrepare);
  vm_ = *vm;
  was_running_ = vm->running;
  layout_ = vm->layout();
  destination_vmm_ = vm->vmm_version;
  if (absl::Status status = ValidateLayout(layout_); !status.ok()) {
    return Fail(status, PeerErrorCode::kPrepare);
  }
  // Before the memory, and before anybody is called: what cannot be tracked is told at once.
  if (absl::Status tracked = OpenTracker(); !tracked.ok()) {
    return Fail(tracked, PeerErrorCode::kPrepare);
  }
  absl::StatusOr<std::unique_ptr<SourceMemory>> memory = parts_.memory_factory->Open(*vm);
  if (!memory.ok()) return Fail(memory.status(), PeerErrorCode::kPrepare);
  memory_ = std::move(memory).value();
  if (options_.resume.has_value()) return TakeUp();
  step_ = Step::kConnecting;
  Hello hello;
  hello.role = ConnectionRole::kControl;
  hello.migration_id = options_.id;
  hello.integrity = integrity_wish_;
  hello.pre_copy = tracker_ != nullptr;
  parts_.transport->Connect(hello, options_.limits.connect_timeout_us,
                            guard_.Wrap([this](auto channel) { OnConnected(std::move(channel)); }));
}

void SourceSession::OnConnected(absl::StatusOr<std::unique_ptr<ControlChannel>> channel) {
  if (step_ != Step::kConnecting) return;
  if (!channel.ok()) return Fail(channel.status(), PeerErrorCode::kInternal);
  step_ = Step::kGreeting;
  EnterPhase(Phase::kPreparing);
  TakeChannel(std::move(channel).value(), options_.limits.silence_preparing_us);
}

void SourceSession::TakeChannel(std::unique_ptr<ControlChannel> channel, int64_t silence_max_us) {
  channel_ = std::move(channel);
  channel_open_ = true;
  peer_name_ = channel_->peer_name();
  watch_ = std::make_unique<PeerWatch>(
      parts_.control, channel_.get(), options_.limits.heartbeat_interval_us, silence_max_us,
      [this](int64_t silent_us) {
        OnChannelClosed(
            absl::DeadlineExceededError(fmt::format("no word for {} ms", silent_us / 1000)));
      });
  channel_->Start(this);
}

void SourceSession::OnMessage(Message message) {
  if (step_ == Step::kRollingBack || step_ == Step::kTelling) return NoteAnswer(message);
  if (step_ >= Step::kRetiring) return;
  if (watch_ != nullptr) watch_->NoteReceived();
  if (std::holds_alternative<Heartbeat>(message)) return;
  if (step_ >= Step::kCommitted && HandlePostCopy(message)) return;
  if (auto* error = std::get_if<PeerError>(&message)) {
    // It would have sent Loaded first if it needed to hear whose the VM is.
    if (!committed()) destination_awaits_word_ = false;
    // The VM has all its memory there, and stands still: no process has anything left to do here.
    if (committed() && error->code == PeerErrorCode::kVmm) RecordCompleted();
    const std::string text = fmt::format("{} gave up: {}", peer(), error->text);
    // One that is busy may be free later; any other had a reason that stays.
    return Fail(error->code == PeerErrorCode::kBusy ? absl::UnavailableError(text)
                                                    : absl::AbortedError(text),
                error->code);
  }
  if (auto* welcome = std::get_if<Welcome>(&message); welcome && step_ == Step::kGreeting) {
    return OnWelcome(*welcome);
  }
  if (auto* accepted = std::get_if<Accepted>(&message); accepted && step_ == Step::kOffered) {
    return OnAccepted(*accepted);
  }
  if (std::holds_alternative<Ready>(message) && step_ == Step::kJoining) {
    destination_ready_ = true;
    return FreezeIfReady();
  }
  if (auto* received = std::get_if<RoundReceived>(&message); received && pre_copy_ != nullptr) {
    return OnRoundReceived(*received);
  }
  const bool settled = pre_copy_ == nullptr || pre_copy_->settled();
  if (std::holds_alternative<Loaded>(message) && step_ == Step::kLoading && settled) {
    return CommitHandover();
  }
  Fail(absl::InvalidArgumentError(
           fmt::format("{} sent {} where it has no place", peer(), MessageName(message))),
       PeerErrorCode::kBadMessage);
}

absl::Status SourceSession::AgreeOn(const Welcome& welcome) {
  if (integrity_wish_ == IntegrityWish::kOn && !welcome.integrity) {
    return AgreeOnIntegrity(IntegrityWish::kOn, IntegrityWish::kCannot).status();
  }
  result_.integrity = welcome.integrity;
  integrity_wish_ = welcome.integrity ? IntegrityWish::kOn : IntegrityWish::kOff;
  return absl::OkStatus();
}

void SourceSession::OnWelcome(const Welcome& welcome) {
  if (absl::Status agreed = AgreeOn(welcome); !agreed.ok()) {
    return Fail(agreed, PeerErrorCode::kVersion);
  }
  token_ = welcome.token;
  if (tracker_ != nullptr && !welcome.pre_copy) {
    tracker_.reset();
    result_.pre_copy.emplace().switch_reason = SwitchReason::kPeer;
    parts_.observer->OnNotice(fmt::format(
        "{} cannot take memory before the switch: all of it follows by post-copy (install the same "
        "Faultline on both hosts)",
        peer()));
  }
  step_ = Step::kOffered;
  channel_->Send(Offer{.layout = layout_, .vmm_version = destination_vmm_});
}

void SourceSession::OnAccepted(const Accepted& accepted) {
  destination_vmm_ = accepted.vmm_version;
  absl::Status kept = KeepForAnother();
  if (!kept.ok()) return Fail(Annotate(kept, "write the journal"), PeerErrorCode::kInternal);
  step_ = Step::kJoining;
  parts_.transport->OpenLanes(Terms(), options_.limits.connect_timeout_us,
                              guard_.Wrap([this](auto lanes) { OnLanesOpen(std::move(lanes)); }));
}

LaneTerms SourceSession::Terms() const {
  return {.id = options_.id,
          .token = token_,
          .layout = layout_,
          .integrity = result_.integrity,
          .memory = memory_.get()};
}

absl::Status SourceSession::KeepForAnother() {
  return parts_.journal->Keep(
      {.id = options_.id, .token = token_, .run = was_running_, .integrity = result_.integrity},
      vm_);
}

void SourceSession::OnLanesOpen(absl::StatusOr<SourceTransport::Lanes> lanes) {
  if (step_ != Step::kJoining) return;
  if (!lanes.ok()) return Fail(lanes.status(), PeerErrorCode::kInternal);
  lanes_ = *lanes;
  lanes_up_ = true;
  FreezeIfReady();
}

void SourceSession::FreezeIfReady() {
  if (!destination_ready_ || lanes_.exporter == nullptr) return;
  if (tracker_ != nullptr) return StartPreCopy();
  Freeze();
}

void SourceSession::Freeze() {
  step_ = Step::kFreezing;
  EnterPhase(Phase::kFreezing);
  watch_->SetSilenceMax(options_.limits.silence_frozen_us);
  // Where a look at memory takes long, it had better be made while the devices are saved.
  const bool looks_long =
      parts_.transport->one_sided() || (pre_copy_ != nullptr && pre_copy_->needs_paused_vm());
  parts_.vmm->Freeze(
      looks_long ? FreezePoint::kDrained : FreezePoint::kSaving,
      guard_.Wrap([this](std::span<const std::byte> bytes) { OnDeviceState(bytes); }),
      guard_.Wrap([this](auto vm) { OnFrozen(std::move(vm)); }));
}

void SourceSession::OnDeviceState(std::span<const std::byte> bytes) {
  if (step_ != Step::kFreezing && step_ != Step::kSaving) return;
  device_state_bytes_ += bytes.size();
  if (result_.integrity) device_state_digest_.Add(bytes);
  while (!bytes.empty()) {
    auto piece = bytes.first(std::min(bytes.size(), kDeviceStateChunkBytesMax));
    channel_->Send(DeviceState{.bytes = {piece.begin(), piece.end()}});
    bytes = bytes.subspan(piece.size());
  }
}

void SourceSession::OnFrozen(absl::StatusOr<VmDescription> vm) {
  if (step_ != Step::kFreezing) return;
  if (!vm.ok()) return Fail(vm.status(), PeerErrorCode::kVmm);
  const int64_t now_ns = parts_.control->NowNanos();
  frozen_ns_ = vm->stopped_at_ns != 0 ? vm->stopped_at_ns : now_ns;
  // Its operator may have stopped or started it meanwhile.
  const bool run_changed = std::exchange(was_running_, vm->running) != vm->running;
  step_ = Step::kSaving;
  deadline_ = parts_.control->RunAfter(options_.limits.handover_timeout_us, [this] {
    Fail(absl::DeadlineExceededError(fmt::format("{} did not load the VM within {} s", peer(),
                                                 options_.limits.handover_timeout_us / 1'000'000)),
         PeerErrorCode::kTimeout);
  });
  if (vm->layout() != layout_) {
    return Fail(absl::FailedPreconditionError(
                    "the VM's memory layout changed while the migration was being prepared (memory "
                    "was plugged or unplugged); start the migration again"),
                PeerErrorCode::kPrepare);
  }
  if (absl::Status tracked = CheckStillTracked(*vm); !tracked.ok()) {
    return Fail(tracked, PeerErrorCode::kPrepare);
  }
  if (pre_copy_ != nullptr) SettlePreCopy();  // first: the destination waits for it
  absl::Status status = parts_.journal->Record(JournalPhase::kFrozen);
  if (status.ok() && run_changed) {
    status = KeepForAnother();
  }
  if (!status.ok()) return Fail(status, PeerErrorCode::kInternal);
  EnterPhase(Phase::kHandingOver);
  parts_.vmm->SaveDevices(guard_.Wrap([this](absl::Status saved) { OnSaved(saved); }));
  channel_->Send(Frozen{.layout = layout_});
  parts_.demand->Post([this, exporter = lanes_.exporter] { exporter->Start(memory_.get(), this); });
}

void SourceSession::OnSaved(absl::Status status) {
  if (step_ != Step::kSaving) return;
  if (!status.ok()) return Fail(status, PeerErrorCode::kVmm);
  step_ = Step::kLoading;
  destination_awaits_word_ = true;
  DeviceStateEnd end{.bytes_total = device_state_bytes_, .digest = {}};
  if (result_.integrity) end.digest = device_state_digest_.End({});
  channel_->Send(end);
}

// The one moment at which the VM changes hands. Once the record is written, whoever finds the
// journal leaves the VM to the destination.
void SourceSession::CommitHandover() {
  if (!lane_failure_.ok()) return Fail(lane_failure_, PeerErrorCode::kInternal);
  absl::Status status = parts_.vmm->MayHandOver();
  if (!status.ok()) return Fail(status, PeerErrorCode::kVmm);
  status = parts_.journal->Record(JournalPhase::kCommitted);
  if (!status.ok()) return Fail(Annotate(status, "write the journal"), PeerErrorCode::kInternal);
  committed_ns_ = parts_.control->NowNanos();
  step_ = Step::kCommitted;
  result_.owner = VmOwner::kDestination;
  deadline_.reset();
  // From here on giving up mends nothing: a connection that is lost is made again.
  watch_->SetSilenceMax(options_.limits.silence_post_copy_us);
  SendCommit();
  // Tracked to the session's end: the VM stands still here, and the bulk thread has pages to push.
  if (pre_copy_ != nullptr) pre_copy_->Leave();
  parts_.vmm->HandedOver();
}

void SourceSession::SendCommit() {
  channel_->Send(Commit{.run = was_running_,
                        .downtime_us = static_cast<uint64_t>(committed_ns_ - frozen_ns_) / 1000});
}

}  // namespace faultline
