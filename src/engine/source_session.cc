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
        parts_.control->Post([this, status] { OnLaneFailed(status); });
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
  parts_.vmm->Prepare(guard_.Wrap([this](auto vm) { OnDescribed(std::move(vm)); }));
  if (!cancelled_early_.empty()) Cancel(cancelled_early_);
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
                            guard_.Wrap([this](auto channel) { OnConnected(std::move(channel)); }));
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
        OnChannelClosed(
            absl::DeadlineExceededError(fmt::format("no word for {} ms", silent_us / 1000)));
      });
  EnterPhase(Phase::kPreparing);
  channel_->Start(this);
}

void SourceSession::OnMessage(Message message) {
  if (step_ == Step::kRollingBack || step_ == Step::kTelling) return NoteAnswer(message);
  if (step_ >= Step::kRetiring) return;
  if (watch_ != nullptr) watch_->NoteReceived();
  if (std::holds_alternative<Heartbeat>(message)) return;
  if (auto* error = std::get_if<PeerError>(&message)) {
    // It would have sent Loaded first if it needed to hear whose the VM is.
    if (!committed()) destination_awaits_word_ = false;
    return Fail(absl::AbortedError(fmt::format("{} gave up: {}", peer(), error->text)),
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
                              guard_.Wrap([this](auto lanes) { OnLanesOpen(std::move(lanes)); }));
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
  watch_->SetSilenceMax(options_.limits.silence_frozen_us);
  parts_.vmm->Freeze(
      guard_.Wrap([this](std::span<const std::byte> bytes) { OnDeviceState(bytes); }),
      guard_.Wrap([this](auto vm) { OnFrozen(std::move(vm)); }));
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
  was_running_ = vm->running;  // its operator may have stopped or started it meanwhile
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
  absl::Status status = parts_.journal->Record(JournalPhase::kFrozen);
  if (!status.ok()) return Fail(status, PeerErrorCode::kInternal);
  EnterPhase(Phase::kHandingOver);
  parts_.vmm->SaveDevices(guard_.Wrap([this](absl::Status saved) { OnSaved(saved); }));
  channel_->Send(Frozen{.layout = layout_});
  parts_.demand->Post([this] { lanes_.exporter->Start(memory_.get(), this); });
}

// Milliseconds for each GiB, so not before the VM runs again: what is asked for before the map is
// there is looked up page by page.
void SourceSession::ReadAllocationMap() {
  parts_.bulk->Post([this] {
    absl::StatusOr<AllocationMap> map = memory_->ReadAllocationMap();
    parts_.control->Post([this, map = std::move(map)]() mutable { OnMapRead(std::move(map)); });
  });
}

void SourceSession::OnMapRead(absl::StatusOr<AllocationMap> map) {
  if (step_ >= Step::kRetiring) return;
  if (map.ok()) {
    map_ = std::move(map).value();
  } else {
    // The VM is gone already and must get its memory: every page is sent, holes too.
    parts_.observer->OnNotice(MessageOf(map.status()));
    for (const RegionLayout& region : layout_) map_.emplace_back().Add(0, region.page_count());
  }
  FAULTLINE_CHECK(map_.size() == layout_.size());
  SendAllocationMap();
  parts_.bulk->Post([this] { pusher_.Start(lanes_.push, memory_.get(), &map_); });
}

void SourceSession::SendAllocationMap() {
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
}

void SourceSession::OnSaved(absl::Status status) {
  if (step_ != Step::kSaving) return;
  if (!status.ok()) return Fail(status, PeerErrorCode::kVmm);
  step_ = Step::kLoading;
  destination_awaits_word_ = true;
  channel_->Send(DeviceStateEnd{.bytes_total = device_state_bytes_});
}

// The one moment at which the VM changes hands. Once the record is written, whoever finds the
// journal leaves the VM to the destination.
void SourceSession::CommitHandover() {
  if (!lane_failure_.ok()) return Fail(lane_failure_, PeerErrorCode::kInternal);
  absl::Status status = parts_.journal->Record(JournalPhase::kCommitted);
  if (!status.ok()) return Fail(Annotate(status, "write the journal"), PeerErrorCode::kInternal);
  committed_ns_ = parts_.control->NowNanos();
  step_ = Step::kCommitted;
  result_.owner = VmOwner::kDestination;
  deadline_.reset();
  // From here on giving up mends nothing: be patient.
  watch_->SetSilenceMax(options_.limits.silence_post_copy_us);
  channel_->Send(Commit{.run = was_running_,
                        .downtime_us = static_cast<uint64_t>(committed_ns_ - frozen_ns_) / 1000});
}

void SourceSession::OnRunning(const Running& running) {
  step_ = Step::kRunning;
  ReadAllocationMap();
  destination_awaits_word_ = false;
  result_.downtime_us = running.downtime_us;
  EnterPhase(Phase::kPostCopy);
  absl::Status status = parts_.journal->MakeDurable();
  if (!status.ok()) {
    parts_.observer->OnNotice("the handover's record does not survive this host's crash: " +
                              MessageOf(status));
  }
}

void SourceSession::OnProgressMessage(const Progress& progress) {
  peer_progress_ = progress;
  peer_reports_ = true;
}

void SourceSession::OnCompleted(const Completed& completed) {
  peer_progress_ = {.pages_missing = 0,
                    .pages_demand = completed.pages_demand,
                    .pages_pushed = completed.pages_pushed};
  peer_reports_ = true;
  result_.total_us = completed.total_us;
  channel_->Send(Goodbye{});
  step_ = Step::kRetiring;
  watch_.reset();
  absl::Status status = parts_.journal->Record(JournalPhase::kCompleted);
  if (!status.ok()) parts_.observer->OnNotice(MessageOf(status));
  parts_.vmm->Retire(options_.quit_source, guard_.Wrap([this](absl::Status retired) {
    if (step_ != Step::kRetiring) return;
    if (!retired.ok()) parts_.observer->OnNotice(MessageOf(retired));
    End();
  }));
}

void SourceSession::OnDemand(PageId page) { pusher_.OnDemand(page); }

void SourceSession::OnExporterFailed(absl::Status status) {
  parts_.control->Post([this, status] { OnLaneFailed(Annotate(status, "demand lane")); });
}

void SourceSession::OnLaneFailed(const absl::Status& status) {
  if (!lane_failure_.ok() || step_ >= Step::kRetiring) return;
  lane_failure_ = status;
  lane_timer_ = parts_.control->RunAfter(options_.limits.lane_failure_grace_us,
                                         [this] { Fail(lane_failure_, PeerErrorCode::kInternal); });
}

void SourceSession::OnChannelClosed(absl::Status reason) {
  bool was_open = std::exchange(channel_open_, false);
  if (step_ == Step::kTelling && was_open) return TellOutcome();
  if (step_ >= Step::kRetiring) return;
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
  watch_.reset();
  if (channel_ != nullptr) {
    channel_->Send(PeerError{.code = code, .text = MessageOf(result_.status)});
  }
  if (committed()) return destination_awaits_word_ ? MakeSureItKnows() : End();
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
  Hello hello;
  hello.role = ConnectionRole::kOutcome;
  hello.migration_id = options_.id;
  hello.token = token_;
  Message outcome = Commit{.run = false, .downtime_us = 0};
  if (!committed()) {
    outcome = PeerError{
        .code = PeerErrorCode::kCancelled,
        .text = fmt::format("the VM stays with the source: {}", MessageOf(result_.status))};
  }
  teller_ = std::make_unique<OutcomeTeller>(parts_.control, parts_.transport, options_.limits,
                                            hello, std::move(outcome));
  teller_->Start([this](bool told) {
    if (step_ != Step::kTelling) return;
    if (!told) {
      parts_.observer->OnNotice(fmt::format(
          "the destination could not be told that the VM is the {}'s; if its QEMU is still there, "
          "it stands paused",
          OwnerName(result_.owner)));
    }
    End();
  });
}

void SourceSession::End() {
  if (step_ >= Step::kEnding) return;
  step_ = Step::kEnding;
  deadline_.reset();
  watch_.reset();
  lane_timer_.reset();
  report_timer_.reset();
  // One after the other: the demand thread posts to the bulk thread.
  parts_.demand->Post([this] {
    if (lanes_.exporter != nullptr) lanes_.exporter->Stop();
    parts_.bulk->Post([this] {
      pusher_.Stop();
      parts_.control->Post([this] { Finish(); });
    });
  });
}

void SourceSession::Finish() {
  result_.last = Snapshot();
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
  const uint64_t to_come = map_.empty() ? snapshot.pages_total : data_pages;
  snapshot.pages_missing = peer_reports_ ? peer_progress_.pages_missing : to_come;
  snapshot.pages_demand = peer_progress_.pages_demand;
  snapshot.pages_pushed = peer_progress_.pages_pushed;
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
