#include "engine/destination_session.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/text.h"
#include "pages/page_digest.h"
#include "protocol/handshake.h"

namespace faultline {

DestinationSession::DestinationSession(Parts parts, Options options)
    : parts_(parts), options_(std::move(options)), integrity_wish_(options_.integrity) {
  result_.transport = parts_.transport->name();
}

void DestinationSession::Start(Done done) {
  FAULTLINE_CHECK(step_ == Step::kIdle);
  done_ = std::move(done);
  started_ns_ = parts_.control->NowNanos();
  step_ = Step::kDescribing;
  if (options_.resume.has_value()) {
    id_ = options_.resume->id;
    result_.migration_id = HexEncode(id_);
    // The record of the handover may be what could not be written.
    const bool owner = options_.resume->committed || options_.resume->whole;
    result_.owner = owner ? VmOwner::kDestination : VmOwner::kUndecided;
  } else if (absl::Status status = parts_.journal->Record(JournalPhase::kPreparing); !status.ok()) {
    Fail(Annotate(status, "write the journal"), PeerErrorCode::kInternal);
    return;
  }
  parts_.vmm->SetNotice([this](const std::string& text) { parts_.observer->OnNotice(text); });
  parts_.vmm->Prepare(guard_.Wrap([this](auto vm) { OnDescribed(std::move(vm)); }));
  if (!cancelled_early_.empty()) Cancel(cancelled_early_);
}

std::string DestinationSession::peer() const {
  return peer_name_.empty() ? "the source" : "the source at " + peer_name_;
}

void DestinationSession::EnterPhase(Phase phase) {
  phase_ = phase;
  parts_.observer->OnPhase(phase, result_.migration_id);
}

void DestinationSession::OnDescribed(absl::StatusOr<VmDescription> vm) {
  if (step_ != Step::kDescribing) return;
  if (!vm.ok() && options_.resume.has_value() && options_.resume->whole) {
    return SeeWhetherVmEnded(vm.status());  // its memory's file may be gone with it
  }
  if (!vm.ok()) return Fail(vm.status(), PeerErrorCode::kPrepare);
  vm_ = std::move(vm).value();
  if (options_.resume.has_value()) return TakeUp();
  absl::Status status = ValidateLayout(vm_.layout());
  if (status.ok()) status = parts_.memory_factory->Check(vm_);
  if (status.ok()) status = Listen();
  if (!status.ok()) return Fail(status, PeerErrorCode::kPrepare);
  step_ = Step::kListening;
  parts_.observer->OnListening(parts_.transport->address());
  EnterPhase(Phase::kConnecting);
  Report();
}

absl::Status DestinationSession::Listen() {
  return parts_.transport->Listen(guard_.Wrap(
      [this](const Hello& hello, auto channel) { OnArrived(hello, std::move(channel)); }));
}

void DestinationSession::OnArrived(const Hello& hello, std::unique_ptr<ControlChannel> channel) {
  if (hello.role != ConnectionRole::kControl) {
    const bool known = hello.migration_id == id_ && SameToken(hello.token, options_.token);
    const bool resumes = hello.role == ConnectionRole::kResume;
    if (!known || (resumes && (step_ < Step::kUndecided || step_ > Step::kParting))) {
      channel->Send(
          PeerError{.code = PeerErrorCode::kToken,
                    .text = "this connection belongs to no migration that is under way here"});
      return;
    }
    if (resumes) return OnResume(hello, std::move(channel));
    outcome_listener_ = std::make_unique<OutcomeListener>(this, std::move(channel));
    return;
  }
  if (step_ != Step::kListening) {
    channel->Send(PeerError{.code = PeerErrorCode::kBusy,
                            .text = "another migration is under way to this destination"});
    return;
  }
  if (!AgreeOn(hello, channel.get())) return;
  step_ = Step::kGreeted;
  id_ = hello.migration_id;
  result_.migration_id = HexEncode(id_);
  TakeChannel(std::move(channel), options_.limits.silence_preparing_us);
  EnterPhase(Phase::kPreparing);
  pre_copy_ = hello.pre_copy;
  channel_->Send(Welcome{.version = kProtocolVersionMax,
                         .token = options_.token,
                         .integrity = result_.integrity,
                         .pre_copy = pre_copy_});
  channel_->Start(this);
}

bool DestinationSession::AgreeOn(const Hello& hello, ControlChannel* channel) {
  absl::StatusOr<bool> agreed = AgreeOnIntegrity(hello.integrity, integrity_wish_);
  if (agreed.ok()) {
    integrity_wish_ = *agreed ? IntegrityWish::kOn : IntegrityWish::kOff;
    result_.integrity = *agreed;
    return true;
  }
  parts_.observer->OnNotice(fmt::format("turned the source at {} away: {}", channel->peer_name(),
                                        MessageOf(agreed.status())));
  channel->Send(PeerError{.code = PeerErrorCode::kVersion, .text = MessageOf(agreed.status())});
  return false;
}

void DestinationSession::TakeChannel(std::unique_ptr<ControlChannel> channel,
                                     int64_t silence_max_us) {
  channel_ = std::move(channel);
  peer_name_ = channel_->peer_name();
  StartWatch(silence_max_us);
}

void DestinationSession::StartWatch(int64_t silence_max_us) {
  watch_ = std::make_unique<PeerWatch>(parts_.control, channel_.get(),
                                       options_.limits.heartbeat_interval_us, silence_max_us,
                                       [this](int64_t silent_us) { OnSilent(silent_us); });
}

void DestinationSession::OnSilent(int64_t silent_us) {
  absl::Status reason =
      absl::DeadlineExceededError(fmt::format("no word for {} ms", silent_us / 1000));
  if (step_ != Step::kUndecided || resumed_.connected) return OnChannelClosed(reason);
  // Impatience would decide nothing, and the word may come yet.
  if (!std::exchange(source_silent_, true)) NoticeUndecided(reason);
  StartWatch(options_.limits.silence_post_copy_us);
}

void DestinationSession::NoticeUndecided(const absl::Status& reason) {
  parts_.observer->OnNotice(fmt::format(
      "lost {}: {}; only the source can say whose the VM is: it stays paused here until it does",
      peer(), MessageOf(reason)));
}

void DestinationSession::OnMessage(Message message) {
  if (watch_ != nullptr) watch_->NoteReceived();
  source_silent_ = false;
  if (std::holds_alternative<Heartbeat>(message)) return;
  if (auto* error = std::get_if<PeerError>(&message)) {
    // A source that connects again has committed: the VM cannot be its own.
    if (step_ == Step::kUndecided && resumed_.connected) {
      return LoseLink(absl::AbortedError(error->text));
    }
    OnSourceGaveUp(*error);
    channel_->Send(Goodbye{});  // it knows now that this side knows, and will not say it again
    return;
  }
  if (step_ >= Step::kDiscarding) return;
  if (HandleMessage(message) || step_ >= Step::kDiscarding) return;
  Fail(absl::InvalidArgumentError(
           fmt::format("{} sent {} where it has no place", peer(), MessageName(message))),
       PeerErrorCode::kBadMessage);
}

// False if the message has no place here. A message whose content is wrong fails the session.
bool DestinationSession::HandleMessage(Message& message) {
  auto check = [this](absl::Status status) {
    if (!status.ok()) Fail(Annotate(status, peer()), PeerErrorCode::kBadMessage);
    return true;
  };
  if (auto* offer = std::get_if<Offer>(&message); offer && step_ == Step::kGreeted) {
    OnOffer(*offer);
    return true;
  }
  if (frozen_ && !map_complete_) {
    if (auto* ranges = std::get_if<AllocatedRanges>(&message)) {
      return check(OnAllocatedRanges(*ranges));
    }
    if (auto* end = std::get_if<AllocationMapEnd>(&message)) {
      return check(OnAllocationMapEnd(*end));
    }
  }
  if (absl::Status status; HandlePreCopy(message, &status)) return check(std::move(status));
  if (step_ == Step::kReceiving) {
    if (auto* state = std::get_if<DeviceState>(&message)) return check(OnDeviceState(*state));
    if (auto* frozen = std::get_if<Frozen>(&message); frozen && !frozen_) {
      OnFrozen(*frozen);
      return true;
    }
    if (auto* end = std::get_if<DeviceStateEnd>(&message); end && frozen_) {
      return check(OnDeviceStateEnd(*end));
    }
  }
  if (auto* commit = std::get_if<Commit>(&message)) {
    if (step_ != Step::kUndecided && (!resumed_.connected || resumed_.committed)) return false;
    resumed_.committed = resumed_.connected;
    if (step_ == Step::kUndecided) OnCommit(*commit);
    TellMissing();
    return true;
  }
  if (std::holds_alternative<Goodbye>(message) && step_ == Step::kParting) {
    RecordOrSay(JournalPhase::kCompleted);
    End();
    return true;
  }
  return false;
}

void DestinationSession::OnOffer(const Offer& offer) {
  absl::Status status = ArmMemory(offer.layout);
  if (status.ok()) {
    status = Annotate(
        parts_.journal->Keep(
            {.id = id_, .token = options_.token, .run = true, .integrity = result_.integrity}, vm_),
        "write the journal");
  }
  if (!status.ok()) return Fail(status, PeerErrorCode::kPrepare);
  MakeLaneEnds();
  step_ = Step::kJoining;
  parts_.transport->ExpectLanes(Terms(), options_.limits.connect_timeout_us,
                                guard_.Wrap([this](auto lanes) { OnLanesOpen(std::move(lanes)); }));
  channel_->Send(Accepted{.vmm_version = vm_.vmm_version});
}

void DestinationSession::MakeLaneEnds() {
  InstallGate* gate = vm_.guest_may_discard ? &gate_ : nullptr;
  fault_handler_ = std::make_unique<FaultHandler>(parts_.demand, memory_.get(), gate, &counters_,
                                                  this, options_.read_around);
  bulk_receiver_ =
      std::make_unique<BulkReceiver>(parts_.bulk, memory_.get(), gate, &counters_, this);
}

absl::Status DestinationSession::ArmMemory(const MemoryLayout& source_layout) {
  RETURN_IF_ERROR(Annotate(ValidateLayout(source_layout), peer()));
  ASSIGN_OR_RETURN(std::vector<RegionIndex> order, MatchLayouts(source_layout, vm_.layout()));
  std::vector<RamRegion> regions;
  for (RegionIndex index : order) regions.push_back(vm_.regions[index]);
  vm_.regions = std::move(regions);
  ASSIGN_OR_RETURN(memory_, parts_.memory_factory->Arm(vm_));
  if (pre_copy_) RETURN_IF_ERROR(memory_->CheckPreCopy());
  dirty_list_ = DirtyList(vm_.layout(), result_.integrity);
  map_cursor_.assign(vm_.regions.size(), 0);
  return absl::OkStatus();
}

void DestinationSession::OnLanesOpen(absl::StatusOr<DestinationTransport::Lanes> lanes) {
  if (step_ != Step::kJoining) return;
  if (!lanes.ok()) return Fail(lanes.status(), PeerErrorCode::kTimeout);
  parts_.demand->Post([this] { fault_handler_->Start(); });
  // The source answers from its freeze on; the VMM's first touches wait for it.
  UseLanes(*lanes);
  step_ = Step::kChecking;
  parts_.vmm->DescribeAgain(guard_.Wrap([this](auto vm) { OnDescribedAgain(std::move(vm)); }));
}

// Once armed, the regions have the source's order.
LaneTerms DestinationSession::Terms() const {
  return {
      .id = id_, .token = options_.token, .layout = vm_.layout(), .integrity = result_.integrity};
}

void DestinationSession::UseLanes(const DestinationTransport::Lanes& lanes) {
  lanes_up_ = true;
  const bool integrity = result_.integrity;
  parts_.demand->Post(
      [this, reader = lanes.reader, integrity] { fault_handler_->Connect(reader, integrity); });
  const bool rounds = pre_copy_ && !frozen_;
  parts_.bulk->Post([this, push = lanes.push, integrity, rounds] {
    bulk_receiver_->AllowRounds(rounds);
    bulk_receiver_->Start(push, integrity);
  });
}

void DestinationSession::OnDescribedAgain(absl::StatusOr<VmDescription> vm) {
  if (step_ != Step::kChecking) return;
  if (!vm.ok()) return Fail(vm.status(), PeerErrorCode::kPrepare);
  absl::StatusOr<std::vector<RegionIndex>> same = MatchLayouts(vm_.layout(), vm->layout());
  if (!same.ok()) {
    return Fail(Annotate(same.status(), "the destination's memory changed since it was armed"),
                PeerErrorCode::kPrepare);
  }
  step_ = Step::kReceiving;
  parts_.vmm->Load(guard_.Wrap([this](absl::Status status) { OnLoaded(status); }));
  channel_->Send(Ready{});
  if (pre_copy_) EnterPhase(Phase::kPreCopy);
}

void DestinationSession::OnFrozen(const Frozen& frozen) {
  if (frozen.layout != vm_.layout()) {
    return Fail(absl::FailedPreconditionError(
                    "the source's memory layout changed between preparation and freeze; start the "
                    "migration again"),
                PeerErrorCode::kPrepare);
  }
  frozen_ = true;
  EnterPhase(Phase::kHandingOver);
  watch_->SetSilenceMax(options_.limits.silence_frozen_us);
}

absl::Status DestinationSession::OnAllocatedRanges(const AllocatedRanges& message) {
  if (message.region >= vm_.regions.size()) {
    return absl::InvalidArgumentError(fmt::format("AllocatedRanges.region is {}, but there are {}",
                                                  message.region, vm_.regions.size()));
  }
  const uint64_t page_count = vm_.regions[message.region].layout.page_count();
  uint64_t& cursor = map_cursor_[message.region];
  for (const PageRange& range : message.ranges) {
    if (range.first < cursor || range.end <= range.first || range.end > page_count) {
      return absl::InvalidArgumentError(fmt::format(
          "AllocatedRanges.ranges of region {}: [{}, {}) is not after page {} and inside {} pages",
          message.region, range.first, range.end, cursor, page_count));
    }
    map_holes_.push_back({message.region, cursor, range.first - cursor});
    cursor = range.end;
    data_pages_ += range.count();
    map_digest_ = DigestWithRange(map_digest_, message.region, range);
  }
  return absl::OkStatus();
}

absl::Status DestinationSession::OnAllocationMapEnd(const AllocationMapEnd& message) {
  if (message.data_pages != data_pages_) {
    return absl::InvalidArgumentError(
        fmt::format("AllocationMapEnd.data_pages is {}, but the ranges hold {}", message.data_pages,
                    data_pages_));
  }
  if (result_.integrity && message.digest != map_digest_) {
    mismatches_.NoteMap();
    FailLanes(absl::DataLossError(
                  "the list of pages that hold data changed on its way: it is not what the source "
                  "sent; nothing was made of it"),
              /*grace_us=*/0);
    return absl::OkStatus();
  }
  for (RegionIndex region = 0; region < map_cursor_.size(); ++region) {
    const uint64_t page_count = vm_.regions[region].layout.page_count();
    map_holes_.push_back({region, map_cursor_[region], page_count - map_cursor_[region]});
  }
  for (PageRun hole : std::exchange(map_holes_, {})) {
    memory_->table().ChangeMissing(hole, PageState::kAbsent);
  }
  map_complete_ = true;
  // None may be missing by now: nothing was ever allocated, or the guest gave it up.
  if (memory_->table().missing_pages() == 0) OnAllPresent();
  return absl::OkStatus();
}

// It is sent again on the next connection, from its start.
void DestinationSession::ForgetMap() {
  map_cursor_.assign(vm_.regions.size(), 0);
  map_holes_.clear();
  map_digest_ = 0;
  data_pages_ = 0;
}

absl::Status DestinationSession::OnDeviceState(const DeviceState& message) {
  // The VM is brought to a stop now; word of that may come before this or after it.
  if (device_state_bytes_ == 0) watch_->SetSilenceMax(options_.limits.silence_frozen_us);
  device_state_bytes_ += message.bytes.size();
  if (device_state_bytes_ > options_.limits.device_state_bytes_max) {
    return absl::ResourceExhaustedError(fmt::format(
        "DeviceState: more than {} in all", FormatBytes(options_.limits.device_state_bytes_max)));
  }
  if (result_.integrity) device_state_digest_.Add(message.bytes);
  // What comes before Frozen reads no memory.
  if (frozen_ && holds_device_state()) {
    held_device_state_.push_back(message.bytes);
  } else {
    parts_.vmm->FeedDeviceState(message.bytes);
  }
  return absl::OkStatus();
}

absl::Status DestinationSession::OnDeviceStateEnd(const DeviceStateEnd& message) {
  if (message.bytes_total != device_state_bytes_) {
    return absl::InvalidArgumentError(fmt::format("DeviceStateEnd.bytes_total is {}, but {} came",
                                                  message.bytes_total, device_state_bytes_));
  }
  // The VMM may have loaded it by now: it is not told whose the VM is before this fits.
  if (result_.integrity && message.digest != device_state_digest_.End({})) {
    return absl::DataLossError(
        "the VM's device state changed on its way: it is not what the source sent; the VM that was "
        "made of it is thrown away");
  }
  step_ = Step::kLoading;
  if (holds_device_state()) return absl::OkStatus();
  parts_.vmm->EndDeviceState();
  SendLoadedIfWhole();
  return absl::OkStatus();
}

void DestinationSession::OnLoaded(absl::Status status) {
  if (step_ != Step::kReceiving && step_ != Step::kLoading) return;
  if (!status.ok()) return Fail(status, PeerErrorCode::kVmm);
  vmm_loaded_ = true;
  SendLoadedIfWhole();
}

// The VMM may know that the state is whole before the message that says so has been read.
void DestinationSession::SendLoadedIfWhole() {
  if (!vmm_loaded_ || step_ != Step::kLoading) return;
  if (!lane_failure_.ok()) return Fail(lane_failure_, PeerErrorCode::kInternal);
  absl::Status status = parts_.journal->Record(JournalPhase::kLoaded);
  if (!status.ok()) return Fail(Annotate(status, "write the journal"), PeerErrorCode::kInternal);
  step_ = Step::kUndecided;
  result_.owner = VmOwner::kUndecided;
  channel_->Send(Loaded{});
}

}  // namespace faultline
