#include "engine/destination_session.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/text.h"

namespace faultline {

DestinationSession::DestinationSession(Parts parts, Options options)
    : parts_(parts), options_(std::move(options)) {
  result_.transport = parts_.transport->name();
}

void DestinationSession::Start(Done done) {
  FAULTLINE_CHECK(step_ == Step::kIdle);
  done_ = std::move(done);
  started_ns_ = parts_.control->NowNanos();
  step_ = Step::kDescribing;
  if (absl::Status status = parts_.journal->Record(JournalPhase::kPreparing); !status.ok()) {
    Fail(Annotate(status, "write the journal"), PeerErrorCode::kInternal);
    return;
  }
  parts_.vmm->Prepare(guard_.Wrap([this](auto vm) { OnDescribed(std::move(vm)); }));
  if (!cancelled_early_.empty()) Cancel(cancelled_early_);
}

std::string DestinationSession::peer() const {
  return channel_ == nullptr ? "the source"
                             : fmt::format("the source at {}", channel_->peer_name());
}

void DestinationSession::EnterPhase(Phase phase) {
  phase_ = phase;
  parts_.observer->OnPhase(phase, result_.migration_id);
}

void DestinationSession::OnDescribed(absl::StatusOr<VmDescription> vm) {
  if (step_ != Step::kDescribing) return;
  if (!vm.ok()) return Fail(vm.status(), PeerErrorCode::kPrepare);
  vm_ = std::move(vm).value();
  absl::Status status = ValidateLayout(vm_.layout());
  if (status.ok()) status = parts_.memory_factory->Check(vm_);
  if (status.ok()) {
    status = parts_.transport->Listen(guard_.Wrap(
        [this](const Hello& hello, auto channel) { OnArrived(hello, std::move(channel)); }));
  }
  if (!status.ok()) return Fail(status, PeerErrorCode::kPrepare);
  step_ = Step::kListening;
  parts_.observer->OnListening(parts_.transport->address());
  EnterPhase(Phase::kConnecting);
  Report();
}

void DestinationSession::OnArrived(const Hello& hello, std::unique_ptr<ControlChannel> channel) {
  if (hello.role == ConnectionRole::kOutcome) {
    if (hello.migration_id != id_) return;
    outcome_listener_ = std::make_unique<OutcomeListener>(this, std::move(channel));
    return;
  }
  if (step_ != Step::kListening) {
    channel->Send(PeerError{.code = PeerErrorCode::kBusy,
                            .text = "another migration is under way to this destination"});
    return;
  }
  step_ = Step::kGreeted;
  id_ = hello.migration_id;
  result_.migration_id = HexEncode(id_);
  channel_ = std::move(channel);
  StartWatch(options_.limits.silence_preparing_us);
  EnterPhase(Phase::kPreparing);
  channel_->Send(Welcome{.version = kProtocolVersionMax, .token = options_.token});
  channel_->Start(this);
}

void DestinationSession::StartWatch(int64_t silence_max_us) {
  watch_ = std::make_unique<PeerWatch>(parts_.control, channel_.get(),
                                       options_.limits.heartbeat_interval_us, silence_max_us,
                                       [this](int64_t silent_us) { OnSilent(silent_us); });
}

void DestinationSession::OnSilent(int64_t silent_us) {
  absl::Status reason =
      absl::DeadlineExceededError(fmt::format("no word for {} ms", silent_us / 1000));
  if (step_ != Step::kUndecided) return OnChannelClosed(reason);
  // Impatience would decide nothing, and the word may come yet.
  source_silent_ = true;
  NoticeUndecided(reason);
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
    channel_->Send(Goodbye{});  // it knows now that this side knows
    return OnSourceGaveUp(*error);
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
  if (step_ == Step::kReceiving) {
    if (auto* state = std::get_if<DeviceState>(&message)) return check(OnDeviceState(*state));
    if (auto* frozen = std::get_if<Frozen>(&message); frozen && !frozen_) {
      OnFrozen(*frozen);
      return true;
    }
    if (auto* ranges = std::get_if<AllocatedRanges>(&message);
        ranges && frozen_ && !map_complete_) {
      return check(OnAllocatedRanges(*ranges));
    }
    if (auto* end = std::get_if<AllocationMapEnd>(&message); end && frozen_ && !map_complete_) {
      return check(OnAllocationMapEnd(*end));
    }
    if (auto* end = std::get_if<DeviceStateEnd>(&message); end && map_complete_) {
      return check(OnDeviceStateEnd(*end));
    }
  }
  if (auto* commit = std::get_if<Commit>(&message); commit && step_ == Step::kUndecided) {
    OnCommit(*commit);
    return true;
  }
  if (std::holds_alternative<Goodbye>(message) && step_ == Step::kParting) {
    End();
    return true;
  }
  return false;
}

void DestinationSession::OnOffer(const Offer& offer) {
  absl::Status status = ArmMemory(offer.layout);
  if (!status.ok()) return Fail(status, PeerErrorCode::kPrepare);
  fault_handler_ =
      std::make_unique<FaultHandler>(parts_.demand, memory_.get(), &gate_, &counters_, this);
  bulk_receiver_ =
      std::make_unique<BulkReceiver>(parts_.bulk, memory_.get(), &gate_, &counters_, this);
  parts_.demand->Post([this] { fault_handler_->Start(); });
  step_ = Step::kJoining;
  parts_.transport->ExpectLanes(id_, options_.token, offer.layout,
                                options_.limits.connect_timeout_us,
                                guard_.Wrap([this](auto lanes) { OnLanesOpen(std::move(lanes)); }));
  channel_->Send(Accepted{.vmm_version = vm_.vmm_version});
}

absl::Status DestinationSession::ArmMemory(const MemoryLayout& source_layout) {
  RETURN_IF_ERROR(Annotate(ValidateLayout(source_layout), peer()));
  ASSIGN_OR_RETURN(std::vector<RegionIndex> order, MatchLayouts(source_layout, vm_.layout()));
  std::vector<RamRegion> regions;
  for (RegionIndex index : order) regions.push_back(vm_.regions[index]);
  vm_.regions = std::move(regions);
  ASSIGN_OR_RETURN(memory_, parts_.memory_factory->Arm(vm_));
  map_cursor_.assign(vm_.regions.size(), 0);
  return absl::OkStatus();
}

void DestinationSession::OnLanesOpen(absl::StatusOr<DestinationTransport::Lanes> lanes) {
  if (step_ != Step::kJoining) return;
  if (!lanes.ok()) return Fail(lanes.status(), PeerErrorCode::kTimeout);
  lanes_ = *lanes;
  parts_.bulk->Post([this] { bulk_receiver_->Start(lanes_.push); });
  step_ = Step::kChecking;
  parts_.vmm->DescribeAgain(guard_.Wrap([this](auto vm) { OnDescribedAgain(std::move(vm)); }));
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
    memory_->table().ChangeMissing({message.region, cursor, range.first - cursor},
                                   PageState::kAbsent);
    cursor = range.end;
    data_pages_ += range.count();
  }
  return absl::OkStatus();
}

absl::Status DestinationSession::OnAllocationMapEnd(const AllocationMapEnd& message) {
  if (message.data_pages != data_pages_) {
    return absl::InvalidArgumentError(
        fmt::format("AllocationMapEnd.data_pages is {}, but the ranges hold {}", message.data_pages,
                    data_pages_));
  }
  for (RegionIndex region = 0; region < map_cursor_.size(); ++region) {
    const uint64_t page_count = vm_.regions[region].layout.page_count();
    memory_->table().ChangeMissing({region, map_cursor_[region], page_count - map_cursor_[region]},
                                   PageState::kAbsent);
  }
  map_complete_ = true;
  parts_.demand->Post([this] { fault_handler_->Serve(lanes_.reader); });
  // None may be missing by now: nothing was ever allocated, or the guest gave it up.
  if (memory_->table().missing_pages() == 0) OnAllPresent();
  return absl::OkStatus();
}

absl::Status DestinationSession::OnDeviceState(const DeviceState& message) {
  device_state_bytes_ += message.bytes.size();
  if (device_state_bytes_ > options_.limits.device_state_bytes_max) {
    return absl::ResourceExhaustedError(fmt::format(
        "DeviceState: more than {} in all", FormatBytes(options_.limits.device_state_bytes_max)));
  }
  parts_.vmm->FeedDeviceState(message.bytes);
  return absl::OkStatus();
}

absl::Status DestinationSession::OnDeviceStateEnd(const DeviceStateEnd& message) {
  if (message.bytes_total != device_state_bytes_) {
    return absl::InvalidArgumentError(fmt::format("DeviceStateEnd.bytes_total is {}, but {} came",
                                                  message.bytes_total, device_state_bytes_));
  }
  step_ = Step::kLoading;
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

void DestinationSession::OnCommit(const Commit& commit) {
  if (!lane_failure_.ok()) Fail(lane_failure_, PeerErrorCode::kInternal);
  committed_ns_ = parts_.control->NowNanos();
  source_downtime_us_ = commit.downtime_us;
  step_ = Step::kTakingOver;
  if (watch_ != nullptr) watch_->SetSilenceMax(options_.limits.silence_post_copy_us);
  result_.owner = VmOwner::kDestination;
  if (absl::Status status = parts_.journal->Record(JournalPhase::kCommitted); !status.ok()) {
    parts_.observer->OnNotice("the handover could not be recorded here: " + MessageOf(status));
  }
  const bool run = commit.run && !channel_lost_ && broken_.ok();
  parts_.vmm->TakeOver(run, guard_.Wrap([this, run](absl::Status status) {
    vm_runs_ = run && status.ok();
    OnTakenOver(status);
  }));
  if (channel_lost_ || !broken_.ok()) LimitTakeOver();
}

// Without its memory's source the VM may hang in the middle of being taken over.
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
  EnterPhase(Phase::kPostCopy);
  if (!broken_.ok()) return Fail(broken_, PeerErrorCode::kMemory);
  if (channel_lost_) {
    return Fail(absl::UnavailableError(
                    "the connection to the source was lost during the handover; the VM is here, "
                    "paused, and its memory is still on the source"),
                PeerErrorCode::kInternal);
  }
  channel_->Send(Running{.downtime_us = result_.downtime_us});
  if (absl::Status durable = parts_.journal->MakeDurable(); !durable.ok()) {
    parts_.observer->OnNotice("the handover's record does not survive this host's crash: " +
                              MessageOf(durable));
  }
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
    if (!status.ok()) parts_.observer->OnNotice(MessageOf(status));
    pause_under_way_ = false;
    UpdatePause();
    FinishVmm();
  }));
}

void DestinationSession::OnLaneFailed(absl::Status status) {
  parts_.control->Post([this, status] {
    if (!lane_failure_.ok() || step_ >= Step::kClosing) return;
    lane_failure_ = status;
    lane_timer_ = parts_.control->RunAfter(options_.limits.lane_failure_grace_us, [this] {
      // With the control channel the lanes go too: the one loss has been told already.
      if (channel_lost_) return;
      Fail(lane_failure_, PeerErrorCode::kInternal);
    });
  });
}

void DestinationSession::OnTransferFailed(absl::Status status) {
  parts_.control->Post([this, status] { Fail(status, PeerErrorCode::kMemory); });
}

void DestinationSession::CompleteIfPresent() {
  if (step_ != Step::kRunning || !all_present_) return;
  step_ = Step::kClosing;
  result_.total_us = static_cast<uint64_t>(parts_.control->NowNanos() - committed_ns_) / 1000;
  UpdatePause();
  deadline_ = parts_.control->RunAfter(options_.limits.discard_settle_us, [this] {
    parts_.demand->Post([this] {
      absl::Status status = fault_handler_->Disarm();
      parts_.control->Post([this, status] { OnDisarmed(status); });
    });
  });
}

void DestinationSession::OnDisarmed(absl::Status status) {
  if (!status.ok()) parts_.observer->OnNotice(MessageOf(Annotate(status, "disarm the memory")));
  if (absl::Status recorded = parts_.journal->Record(JournalPhase::kCompleted); !recorded.ok()) {
    parts_.observer->OnNotice(MessageOf(recorded));
  }
  disarmed_ = true;
  FinishVmm();
}

void DestinationSession::FinishVmm() {
  if (!disarmed_ || pause_under_way_) return;
  parts_.vmm->Finish(guard_.Wrap([this](absl::Status finished) {
    if (!finished.ok()) parts_.observer->OnNotice(MessageOf(finished));
    Part();
  }));
}

// Nothing more is needed from the source, which may be gone by now.
void DestinationSession::Part() {
  if (channel_lost_) return End();
  if (!result_.status.ok()) {
    channel_->Send(PeerError{.code = PeerErrorCode::kVmm, .text = MessageOf(result_.status)});
    return End();
  }
  step_ = Step::kParting;
  deadline_ = parts_.control->RunAfter(options_.limits.goodbye_timeout_us, [this] { End(); });
  channel_->Send(Completed{.pages_demand = counters_.pages_demand.load(std::memory_order_relaxed),
                           .pages_pushed = counters_.pages_pushed.load(std::memory_order_relaxed),
                           .total_us = result_.total_us});
}

void DestinationSession::OnChannelClosed(absl::Status reason) {
  if (channel_lost_ || step_ >= Step::kDiscarding) return;
  channel_lost_ = true;
  watch_.reset();
  if (step_ == Step::kClosing) return;
  if (step_ == Step::kParting) return End();
  if (step_ == Step::kUndecided) return NoticeUndecided(reason);
  Fail(absl::Status(reason.code(), fmt::format("lost {}: {}", peer(), MessageOf(reason))),
       PeerErrorCode::kInternal);
}

// Before the handover this is the decision: the VM is the source's.
void DestinationSession::OnSourceGaveUp(const PeerError& error) {
  absl::Status status = absl::AbortedError(fmt::format("{} gave up: {}", peer(), error.text));
  if (step_ != Step::kUndecided) return Fail(status, error.code);
  result_.status = broken_.ok() ? status : broken_;
  result_.owner = VmOwner::kSource;
  DiscardVm();
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
  if (owned() || step_ >= Step::kDiscarding) return;
  channel_lost_ = true;
  watch_.reset();
  if (auto* commit = std::get_if<Commit>(&outcome); commit && step_ == Step::kUndecided) {
    return OnCommit(*commit);
  }
  if (auto* error = std::get_if<PeerError>(&outcome)) OnSourceGaveUp(*error);
}

void DestinationSession::Cancel(const std::string& reason) {
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
  if (step_ == Step::kUndecided && !channel_lost_ && !source_silent_) {
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
  if (broken_.ok()) broken_ = std::move(status);
  result_.status = broken_;
  if (channel_ != nullptr && !channel_lost_) {
    channel_->Send(PeerError{.code = code, .text = MessageOf(result_.status)});
  }
  // The source has been told; what it decides comes as a message.
  if (step_ == Step::kUndecided) return;
  if (step_ == Step::kTakingOver) return LimitTakeOver();
  if (owned()) return End();
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
    if (absl::Status recorded = parts_.journal->Record(JournalPhase::kRolledBack); !recorded.ok()) {
      parts_.observer->OnNotice(MessageOf(recorded));
    }
    End();
  }));
}

void DestinationSession::End() {
  if (step_ >= Step::kEnding) return;
  step_ = Step::kEnding;
  deadline_.reset();
  watch_.reset();
  lane_timer_.reset();
  report_timer_.reset();
  // One after the other: the bulk thread posts to the demand thread.
  parts_.bulk->Post([this] {
    if (bulk_receiver_ != nullptr) bulk_receiver_->Stop();
    parts_.demand->Post([this] {
      if (fault_handler_ != nullptr) fault_handler_->Stop();
      parts_.control->Post([this] { Finish(); });
    });
  });
}

void DestinationSession::Finish() {
  result_.last = Snapshot();
  result_.fault_latency_us = counters_.fault_latency_us.Summarize();
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
  if (step_ == Step::kRunning) {
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
  snapshot.pages_discarded = counters_.pages_discarded.load(std::memory_order_relaxed);
  snapshot.faults = counters_.faults.load(std::memory_order_relaxed);
  snapshot.bytes_wire = parts_.transport->bytes_wire();
  snapshot.elapsed_us = static_cast<uint64_t>(now_ns - started_ns_) / 1000;
  if (committed_ns_ != 0) {
    snapshot.post_copy_us = static_cast<uint64_t>(now_ns - committed_ns_) / 1000;
  }
  return snapshot;
}

}  // namespace faultline
