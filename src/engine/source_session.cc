#include "engine/source_session.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/text.h"
#include "protocol/codec.h"

namespace faultline {

SourceSession::SourceSession(Parts parts, Options options)
    : parts_(std::move(parts)),
      options_(std::move(options)),
      pusher_(std::move(parts_.push_order), [this](absl::Status status) {
        parts_.control->Post([this, status] { Fail(status, PeerErrorCode::kInternal); });
      }) {
  result_.migration_id = HexEncode(options_.id);
  result_.transport = parts_.transport->name();
}

void SourceSession::Start(Done done) {
  FAULTLINE_CHECK(step_ == Step::kIdle);
  done_ = std::move(done);
  started_ns_ = parts_.control->NowNanos();
  EnterPhase(Phase::kConnecting);
  Report();
  step_ = Step::kDescribing;
  if (absl::Status status = parts_.journal->Record(JournalPhase::kPreparing); !status.ok()) {
    Fail(Annotate(status, "write the journal"), PeerErrorCode::kInternal);
    return;
  }
  parts_.vmm->Prepare([this](absl::StatusOr<VmDescription> vm) { OnDescribed(std::move(vm)); });
}

std::string SourceSession::peer() const {
  return channel_ == nullptr ? "the destination"
                             : fmt::format("the destination at {}", channel_->peer_name());
}

void SourceSession::EnterPhase(Phase phase) {
  phase_ = phase;
  parts_.observer->OnPhase(phase, result_.migration_id);
}

void SourceSession::OnDescribed(absl::StatusOr<VmDescription> vm) {
  if (step_ != Step::kDescribing) return;
  if (!vm.ok()) return Fail(vm.status(), PeerErrorCode::kPrepare);
  was_running_ = vm->running;
  layout_ = vm->layout();
  destination_vmm_ = vm->vmm_version;
  if (absl::Status status = ValidateLayout(layout_); !status.ok()) {
    return Fail(status, PeerErrorCode::kPrepare);
  }
  absl::StatusOr<std::unique_ptr<SourceMemory>> memory = parts_.memory_factory->Open(*vm);
  if (!memory.ok()) return Fail(memory.status(), PeerErrorCode::kPrepare);
  memory_ = std::move(memory).value();
  step_ = Step::kConnecting;
  Hello hello;
  hello.role = ConnectionRole::kControl;
  hello.migration_id = options_.id;
  parts_.transport->Connect(hello, options_.limits.connect_timeout_us,
                            [this](auto channel) { OnConnected(std::move(channel)); });
}

void SourceSession::OnConnected(absl::StatusOr<std::unique_ptr<ControlChannel>> channel) {
  if (step_ != Step::kConnecting) return;
  if (!channel.ok()) return Fail(channel.status(), PeerErrorCode::kInternal);
  step_ = Step::kGreeting;
  channel_ = std::move(channel).value();
  channel_open_ = true;
  watch_ = std::make_unique<PeerWatch>(
      parts_.control, channel_.get(), options_.limits.heartbeat_interval_us,
      options_.limits.silence_preparing_us, [this](int64_t silent_us) {
        channel_open_ = false;
        OnChannelClosed(
            absl::DeadlineExceededError(fmt::format("no word for {} ms", silent_us / 1000)));
      });
  EnterPhase(Phase::kPreparing);
  channel_->Start(this);
}

void SourceSession::OnMessage(Message message) {
  if (step_ >= Step::kRollingBack) return;
  if (watch_ != nullptr) watch_->NoteReceived();
  if (std::holds_alternative<Heartbeat>(message)) return;
  if (auto* error = std::get_if<PeerError>(&message)) {
    absl::Status status = absl::AbortedError(fmt::format("{} gave up: {}", peer(), error->text));
    if (!committed()) return Fail(status, error->code);
    result_.status = status;
    return End();
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
  if (std::holds_alternative<Loaded>(message) && step_ == Step::kLoading) return CommitHandover();
  if (auto* running = std::get_if<Running>(&message); running && step_ == Step::kCommitted) {
    return OnRunning(*running);
  }
  if (auto* progress = std::get_if<Progress>(&message); progress && step_ == Step::kRunning) {
    return OnProgressMessage(*progress);
  }
  if (auto* completed = std::get_if<Completed>(&message); completed && step_ == Step::kRunning) {
    return OnCompleted(*completed);
  }
  Fail(absl::InvalidArgumentError(
           fmt::format("{} sent {} where it has no place", peer(), MessageName(message))),
       PeerErrorCode::kBadMessage);
}

void SourceSession::OnWelcome(const Welcome& welcome) {
  token_ = welcome.token;
  step_ = Step::kOffered;
  channel_->Send(Offer{.layout = layout_, .vmm_version = destination_vmm_});
}

void SourceSession::OnAccepted(const Accepted& accepted) {
  destination_vmm_ = accepted.vmm_version;
  step_ = Step::kJoining;
  parts_.transport->OpenLanes(options_.id, token_, layout_, options_.limits.connect_timeout_us,
                              [this](auto lanes) { OnLanesOpen(std::move(lanes)); });
}

void SourceSession::OnLanesOpen(absl::StatusOr<SourceTransport::Lanes> lanes) {
  if (step_ != Step::kJoining) return;
  if (!lanes.ok()) return Fail(lanes.status(), PeerErrorCode::kInternal);
  lanes_ = *lanes;
  FreezeIfReady();
}

void SourceSession::FreezeIfReady() {
  if (!destination_ready_ || lanes_.exporter == nullptr) return;
  step_ = Step::kFreezing;
  EnterPhase(Phase::kFreezing);
  parts_.vmm->Freeze([this](std::span<const std::byte> bytes) { OnDeviceState(bytes); },
                     [this](absl::StatusOr<VmDescription> vm) { OnFrozen(std::move(vm)); });
}

void SourceSession::OnDeviceState(std::span<const std::byte> bytes) {
  if (step_ != Step::kFreezing && step_ != Step::kSaving) return;
  device_state_bytes_ += bytes.size();
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
  step_ = Step::kSaving;
  watch_->SetSilenceMax(options_.limits.silence_frozen_us);
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
  absl::Status status = parts_.journal->Record(JournalPhase::kFrozen);
  if (status.ok()) status = SendAllocationMap();
  if (!status.ok()) return Fail(status, PeerErrorCode::kInternal);
  EnterPhase(Phase::kHandingOver);
  parts_.demand->Post([this] { lanes_.exporter->Start(memory_.get(), &map_, this); });
  parts_.vmm->SaveDevices([this](absl::Status saved) { OnSaved(std::move(saved)); });
}

absl::Status SourceSession::SendAllocationMap() {
  ASSIGN_OR_RETURN(map_, memory_->ReadAllocationMap());
  FAULTLINE_CHECK(map_.size() == layout_.size());
  channel_->Send(Frozen{.layout = layout_});
  uint64_t data_pages = 0;
  for (RegionIndex region = 0; region < map_.size(); ++region) {
    data_pages += map_[region].page_count();
    AllocatedRanges message{.region = region, .ranges = {}};
    map_[region].ForEach([&](PageRange range) {
      message.ranges.push_back(range);
      if (message.ranges.size() == kRangesPerMessageMax) {
        channel_->Send(message);
        message.ranges.clear();
      }
    });
    if (!message.ranges.empty()) channel_->Send(message);
  }
  channel_->Send(AllocationMapEnd{.data_pages = data_pages});
  return absl::OkStatus();
}

void SourceSession::OnSaved(absl::Status status) {
  if (step_ != Step::kSaving) return;
  if (!status.ok()) return Fail(status, PeerErrorCode::kVmm);
  step_ = Step::kLoading;
  destination_may_be_loaded_ = true;
  channel_->Send(DeviceStateEnd{.bytes_total = device_state_bytes_});
}

// The one moment at which the VM changes hands. Once the record is written, whoever finds the
// journal leaves the VM to the destination.
void SourceSession::CommitHandover() {
  absl::Status status = parts_.journal->Record(JournalPhase::kCommitted);
  if (!status.ok()) return Fail(Annotate(status, "write the journal"), PeerErrorCode::kInternal);
  committed_ns_ = parts_.control->NowNanos();
  step_ = Step::kCommitted;
  result_.owner = VmOwner::kDestination;
  deadline_.reset();
  channel_->Send(Commit{.run = was_running_,
                        .downtime_us = static_cast<uint64_t>(committed_ns_ - frozen_ns_) / 1000});
  parts_.bulk->Post([this] { pusher_.Start(lanes_.push, memory_.get(), &map_); });
}

void SourceSession::OnRunning(const Running& running) {
  step_ = Step::kRunning;
  result_.downtime_us = running.downtime_us;
  watch_->SetSilenceMax(options_.limits.silence_post_copy_us);
  peer_progress_.pages_missing = Snapshot().pages_missing;
  EnterPhase(Phase::kPostCopy);
  absl::Status status = parts_.journal->MakeDurable();
  if (!status.ok()) {
    parts_.observer->OnNotice("the handover's record does not survive this host's crash: " +
                              MessageOf(status));
  }
}

void SourceSession::OnProgressMessage(const Progress& progress) { peer_progress_ = progress; }

void SourceSession::OnCompleted(const Completed& completed) {
  peer_progress_ = {.pages_missing = 0,
                    .pages_demand = completed.pages_demand,
                    .pages_pushed = completed.pages_pushed};
  result_.total_us = completed.total_us;
  channel_->Send(Goodbye{});
  step_ = Step::kRetiring;
  watch_.reset();
  absl::Status status = parts_.journal->Record(JournalPhase::kCompleted);
  if (!status.ok()) parts_.observer->OnNotice(MessageOf(status));
  parts_.vmm->Retire(options_.quit_source, [this](absl::Status retired) {
    if (step_ != Step::kRetiring) return;
    if (!retired.ok()) parts_.observer->OnNotice(MessageOf(retired));
    End();
  });
}

void SourceSession::OnDemand(PageId page) {
  parts_.bulk->Post([this, page] { pusher_.OnDemand(page); });
}

void SourceSession::OnExporterFailed(absl::Status status) {
  parts_.control->Post(
      [this, status] { Fail(Annotate(status, "demand lane"), PeerErrorCode::kInternal); });
}

void SourceSession::OnChannelClosed(absl::Status reason) {
  channel_open_ = false;
  if (step_ >= Step::kRetiring) return;
  std::string text = fmt::format("lost {}: {}", peer(), MessageOf(reason));
  Fail(absl::Status(reason.code(), text), PeerErrorCode::kInternal);
}

void SourceSession::Cancel(const std::string& reason) {
  if (step_ == Step::kIdle || step_ >= Step::kRollingBack) return;
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
  watch_.reset();
  if (channel_ != nullptr) {
    channel_->Send(PeerError{.code = code, .text = MessageOf(result_.status)});
  }
  if (committed()) {
    // Without Running nobody knows whether Commit has arrived.
    if (step_ == Step::kCommitted) return TellOutcome(Commit{.run = false, .downtime_us = 0});
    return End();
  }
  step_ = Step::kRollingBack;
  parts_.vmm->Rollback([this](absl::Status rolled_back) { OnRolledBack(std::move(rolled_back)); });
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
  if (destination_may_be_loaded_ && !channel_open_) {
    return TellOutcome(PeerError{
        .code = PeerErrorCode::kCancelled,
        .text = fmt::format("the VM stays with the source: {}", MessageOf(result_.status))});
  }
  End();
}

void SourceSession::TellOutcome(Message outcome) {
  step_ = Step::kTelling;
  outcome_ = std::move(outcome);
  watch_.reset();
  Hello hello;
  hello.role = ConnectionRole::kOutcome;
  hello.migration_id = options_.id;
  hello.token = token_;
  parts_.transport->Connect(hello, options_.limits.outcome_retry_us,
                            [this](auto channel) { OnOutcomeConnected(std::move(channel)); });
}

void SourceSession::OnOutcomeConnected(absl::StatusOr<std::unique_ptr<ControlChannel>> channel) {
  if (step_ != Step::kTelling) return;
  if (channel.ok()) {
    (*channel)->Send(outcome_);
    channel_ = std::move(channel).value();
    return End();
  }
  if (++outcome_tries_ < options_.limits.outcome_tries_max) {
    deadline_ = parts_.control->RunAfter(options_.limits.outcome_retry_us,
                                         [this] { TellOutcome(std::move(outcome_)); });
    return;
  }
  parts_.observer->OnNotice(fmt::format(
      "the destination could not be told that the VM is the {}'s; if its QEMU is still there, it "
      "stands paused",
      OwnerName(result_.owner)));
  End();
}

void SourceSession::End() {
  step_ = Step::kEnding;
  deadline_.reset();
  watch_.reset();
  report_timer_.reset();
  lanes_stopping_ = 2;
  auto stopped = [this] {
    if (--lanes_stopping_ == 0) Finish();
  };
  parts_.demand->Post([this, stopped] {
    if (lanes_.exporter != nullptr) lanes_.exporter->Stop();
    parts_.control->Post(stopped);
  });
  parts_.bulk->Post([this, stopped] {
    pusher_.Stop();
    parts_.control->Post(stopped);
  });
}

void SourceSession::Finish() {
  result_.last = Snapshot();
  step_ = Step::kEnded;
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
  bool destination_reports = step_ >= Step::kRunning && committed_ns_ != 0;
  snapshot.pages_missing = destination_reports ? peer_progress_.pages_missing : data_pages;
  snapshot.pages_demand = peer_progress_.pages_demand;
  snapshot.pages_pushed = peer_progress_.pages_pushed;
  snapshot.bytes_wire = parts_.transport->bytes_wire();
  snapshot.elapsed_us = static_cast<uint64_t>(now_ns - started_ns_) / 1000;
  if (committed_ns_ != 0) {
    snapshot.post_copy_us = static_cast<uint64_t>(now_ns - committed_ns_) / 1000;
  }
  return snapshot;
}

}  // namespace faultline
