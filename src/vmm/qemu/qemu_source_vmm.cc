#include "vmm/qemu/qemu_source_vmm.h"

#include <fmt/format.h>
#include <poll.h>

#include <utility>

#include "base/check.h"
#include "vmm/qemu/handed_over.h"
#include "vmm/qemu/monitor_call.h"
#include "vmm/qemu/vm_lock.h"

namespace faultline {
namespace {

constexpr int64_t kPauseTimeoutMs = 60000;  // `stop` flushes the disks
constexpr int64_t kFreezeTimeoutMs = 60000;
constexpr int64_t kSaveTimeoutMs = 60000;
constexpr int64_t kRetireTimeoutMs = 10000;

// In place of a migration's status.
constexpr const char* kStands = "the VM stands";
constexpr const char* kRunsAgain = "the VM runs again";

absl::Status RunsAgainError() {
  return absl::AbortedError(
      "somebody else let the VM run ('cont') while it was being handed over: migrate again, and "
      "leave the VM's monitor alone meanwhile");
}

bool EndedBadly(const std::string& status) { return status == "failed" || status == "cancelled"; }

}  // namespace

QemuSourceVmm::QemuSourceVmm(QemuSourceOptions options, Executor* control)
    : options_(std::move(options)), worker_(control) {}

QemuSourceVmm::~QemuSourceVmm() {
  worker_.Stop();
  stream_.reset();  // its thread posts through the worker
}

void QemuSourceVmm::Prepare(VmmDescribed done) {
  worker_.Run<absl::StatusOr<VmDescription>>([this] { return DoPrepare(); }, std::move(done));
}

void QemuSourceVmm::SetPaused(bool paused, VmmDone done) {
  worker_.Run<absl::Status>([this, paused] { return paused ? DoPause() : DoContinue(); },
                            std::move(done));
}

void QemuSourceVmm::Freeze(FreezePoint point, DeviceStateSink sink, VmmDescribed done) {
  sink_ = std::move(sink);
  held_.clear();
  freeze_told_ = false;
  worker_.Run<absl::StatusOr<VmDescription>>(
      [this, point] { return DoFreeze(point); },
      [this, done = std::move(done)](absl::StatusOr<VmDescription> vm) {
        worker_.PostToControl([this] {
          freeze_told_ = true;
          for (const std::vector<std::byte>& piece : std::exchange(held_, {})) GiveToSink(piece);
        });
        done(std::move(vm));
      });
}

void QemuSourceVmm::OnPiece(StreamPart part, std::vector<std::byte> bytes) {
  if (part == StreamPart::kMemory || freeze_told_) return GiveToSink(bytes);
  if (sink_) held_.push_back(std::move(bytes));
}

void QemuSourceVmm::GiveToSink(std::span<const std::byte> bytes) {
  if (sink_) sink_(bytes);
}

void QemuSourceVmm::SaveDevices(VmmDone done) {
  worker_.Run<absl::Status>([this] { return DoSaveDevices(); }, std::move(done));
}

void QemuSourceVmm::Rollback(VmmDone done) {
  worker_.CancelAll();
  sink_ = nullptr;
  held_.clear();
  worker_.Run<absl::Status>([this] { return DoRollback(); }, std::move(done));
}

// Nothing is under way, so the worker's thread touches neither the guardian nor the monitor.
absl::Status QemuSourceVmm::MayHandOver() {
  RETURN_IF_ERROR(CheckGuardian());
  return WasLetRun(qmp_.get()) ? RunsAgainError() : absl::OkStatus();
}

void QemuSourceVmm::HandedOver() {
  if (!options_.at_handover) return;
  worker_.Run<absl::Status>(
      [this] {
        options_.at_handover();
        return absl::OkStatus();
      },
      [](absl::Status) {});
}

void QemuSourceVmm::Retire(bool quit, VmmDone done) {
  worker_.Run<absl::Status>([this, quit] { return DoRetire(quit); }, std::move(done));
}

absl::Status QemuSourceVmm::StandsStill() { return faultline::CheckStandsStill(qmp_.get()); }

absl::StatusOr<VmDescription> QemuSourceVmm::DoPrepare() {
  qmp_.reset();  // the monitor serves one client
  prepared_ = DiscoveredVm();
  if (guardian_ != nullptr) guardian_->StandDown();
  touched_ = false;
  paused_ = false;
  ASSIGN_OR_RETURN(qmp_, QmpClient::Connect(options_.qmp_path, worker_.cancel()));
  ASSIGN_OR_RETURN(process_, MonitoredProcess::Find(qmp_.get()));
  ASSIGN_OR_RETURN(prepared_, DiscoverVm(qmp_.get(), DiscoverAs::kSource));
  RETURN_IF_ERROR(LockVm(prepared_.files, worker_.cancel()));
  // Nothing has stopped the VM yet: one that its operator stops from here on stays so.
  plan_ = RollbackPlan();
  plan_.settings = SourceSettingsBefore(prepared_.facts);
  touched_ = true;
  RETURN_IF_ERROR(StartGuardian());
  RETURN_IF_ERROR(ApplySourceSettings(qmp_.get(), prepared_.facts));
  return prepared_.description;
}

absl::Status QemuSourceVmm::StartGuardian() {
  if (options_.journal_path.empty()) return absl::OkStatus();
  Guardian::Setup setup;
  setup.side = Guardian::Side::kSource;
  setup.journal_path = options_.journal_path;
  setup.monitor = qmp_->fd();
  setup.monitor_path = qmp_->path();
  setup.plan = EncodePlan(plan_);
  for (const FileDescriptor& file : prepared_.files) setup.held.push_back(file.get());
  ASSIGN_OR_RETURN(guardian_, Guardian::Spawn(setup));
  return absl::OkStatus();
}

absl::Status QemuSourceVmm::CheckGuardian() const {
  if (options_.journal_path.empty() || (guardian_ != nullptr && guardian_->alive())) {
    return absl::OkStatus();
  }
  return absl::AbortedError(
      "this command's guardian process has died, and without it nobody would put the VM back to "
      "work if this command died too: find out who ended it, and migrate again");
}

absl::Status QemuSourceVmm::PlanToRun(bool run) {
  plan_.was_running = run;
  if (guardian_ != nullptr) {
    absl::Status told = guardian_->AwaitReady();
    if (told.ok()) told = guardian_->UpdatePlan(EncodePlan(plan_));
    if (!told.ok()) RETURN_IF_ERROR(CheckGuardian());  // the better sentence, if it died just now
    RETURN_IF_ERROR(told);
  }
  return CheckGuardian();
}

absl::Status QemuSourceVmm::DoPause() {
  FAULTLINE_CHECK(qmp_ != nullptr && !paused_);
  ASSIGN_OR_RETURN(Json answer, qmp_->Execute("query-status"));
  const std::string status = JsonText(answer, "status");
  const bool running = status == "running";
  // QEMU 10 makes 'paused' of one that sleeps, and `cont` is not for this side to say.
  if (!running && status != "paused" && status != "prelaunch") {
    return absl::AbortedError(
        fmt::format("the VM neither runs nor is paused any more (its status is '{}'): migrate "
                    "again when it does",
                    status));
  }
  if (running) RETURN_IF_ERROR(PlanToRun(true));
  paused_ = running;
  qmp_->DropEvents();
  // Also for one that stands already: only this drains its disks for sure.
  RETURN_IF_ERROR(qmp_->Execute("stop", Json::object(), kPauseTimeoutMs).status());
  stopped_at_ns_ = 0;
  if (!running) return absl::OkStatus();
  ASSIGN_OR_RETURN(QmpEvent stopped,
                   qmp_->WaitForEvent([](const QmpEvent& event) { return event.name == "STOP"; },
                                      kPauseTimeoutMs, "QEMU to say that the VM stands"));
  stopped_at_ns_ = stopped.read_at_ns;
  return absl::OkStatus();
}

absl::Status QemuSourceVmm::DoContinue() {
  FAULTLINE_CHECK(qmp_ != nullptr);
  // Events come before the answer to what is asked after them.
  ASSIGN_OR_RETURN(Json answer, qmp_->Execute("query-status"));
  const std::string status = JsonText(answer, "status");
  const bool resumed = status == "running" || WasLetRun(qmp_.get());
  // What a pause of ours leaves is 'paused'; QEMU 10 has 'prelaunch' for one that never ran.
  const bool stands = status == "paused" || status == "prelaunch";
  if (paused_ && !resumed && stands) RETURN_IF_ERROR(qmp_->Execute("cont").status());
  const bool was_paused = std::exchange(paused_, false);
  if (was_paused) RETURN_IF_ERROR(PlanToRun(false));
  if (was_paused && !resumed && !stands) {
    return absl::AbortedError(fmt::format(
        "somebody else did something to the VM while Faultline had stopped it to look at its "
        "memory: its status is '{}', and it is left as it stands",
        status));
  }
  if (!resumed) return absl::OkStatus();
  return absl::AbortedError(
      "somebody else let the VM run ('cont') while Faultline had stopped it to look at its memory: "
      "migrate again, and leave the VM's monitor alone meanwhile");
}

absl::StatusOr<VmDescription> QemuSourceVmm::DoFreeze(FreezePoint point) {
  FAULTLINE_CHECK(qmp_ != nullptr);
  absl::Status ready = guardian_ != nullptr ? guardian_->AwaitReady() : absl::OkStatus();
  RETURN_IF_ERROR(CheckGuardian());
  RETURN_IF_ERROR(ready);
  // The VM still runs here: everything that needs many round trips comes before the stop.
  const DiscoveredVm* vm = &prepared_;
  ASSIGN_OR_RETURN(bool same, HasSameParts(qmp_.get(), prepared_.facts));
  ASSIGN_OR_RETURN(Json status, qmp_->Execute("query-status"));
  const bool changed = JsonText(status, "status") != (paused_ ? "paused" : prepared_.facts.status);
  if (!same || changed) {
    ASSIGN_OR_RETURN(frozen_, DiscoverVm(qmp_.get(), DiscoverAs::kSource));
    vm = &frozen_;
  }
  // QEMU's stream begins with a list of all memory: a destination that has less would fail on it
  // with a sentence of its own, before anybody here says what the cause is.
  if (vm->description.layout() != prepared_.description.layout()) {
    return absl::AbortedError(
        "the VM's memory layout changed while the migration was being prepared (memory was plugged "
        "or unplugged); start the migration again");
  }
  VmDescription description = vm->description;
  description.running = description.running || paused_;
  plan_.migrating = true;
  RETURN_IF_ERROR(PlanToRun(description.running));
  RETURN_IF_ERROR(StartStream());
  // One that does not run tells nobody when it stands.
  pauses_before_switch_ = point == FreezePoint::kDrained || paused_ || !vm->description.running;
  if (!pauses_before_switch_) RETURN_IF_ERROR(DoNotPauseBeforeSwitch(qmp_.get()));
  qmp_->DropEvents();
  if (!paused_) stopped_at_ns_ = 0;
  saved_ = false;
  RETURN_IF_ERROR(
      qmp_->Execute("migrate", {{"uri", fmt::format("fd:{}", kDeviceStreamName)}}).status());
  RETURN_IF_ERROR(pauses_before_switch_ ? WaitForMigration("pre-switchover", kFreezeTimeoutMs)
                                        : WaitForSave());
  if (!pauses_before_switch_ && stopped_at_ns_ == 0) {
    // Its operator stopped it just before QEMU would have: it stays so, wherever it is.
    description.running = false;
    RETURN_IF_ERROR(PlanToRun(false));
  }
  description.stopped_at_ns = stopped_at_ns_;
  blocks_ = vm->facts.blocks;
  return description;
}

absl::Status QemuSourceVmm::StartStream() {
  ASSIGN_OR_RETURN(auto ends, MakeSocketPair());
  RETURN_IF_ERROR(qmp_->SendDescriptor(kDeviceStreamName, ends.second.get()));
  ends.second.Reset();  // QEMU's duplicate must be the only one, or the stream would never end
  stream_ = std::make_unique<DeviceStreamReader>(
      std::move(ends.first), [this](StreamPart part, std::vector<std::byte> bytes) {
        worker_.PostToControl(
            [this, part, bytes = std::move(bytes)]() mutable { OnPiece(part, std::move(bytes)); });
      });
  return absl::OkStatus();
}

absl::Status QemuSourceVmm::WaitForSave() {
  RETURN_IF_ERROR(WaitForMigration(kStands, kFreezeTimeoutMs));
  if (saved_) return absl::OkStatus();
  // Its disks are drained now. QEMU answers nobody meanwhile: its stream is the first to say more.
  ASSIGN_OR_RETURN(bool saves, stream_->WaitForMemoryEnd(worker_.cancel(), kFreezeTimeoutMs));
  return saves ? absl::OkStatus() : WaitForMigration("completed", kFreezeTimeoutMs);
}

absl::Status QemuSourceVmm::WaitForMigration(std::string_view wanted, int64_t timeout_ms) {
  std::string reached;
  absl::StatusOr<QmpEvent> event = qmp_->WaitForEvent(
      [&](const QmpEvent& candidate) {
        if (candidate.name == "STOP") {
          stopped_at_ns_ = candidate.read_at_ns;
          reached = kStands;
        } else if (candidate.name == "RESUME") {
          reached = kRunsAgain;
        } else if (candidate.name == "MIGRATION") {
          reached = JsonText(candidate.data, "status");
        }
        return reached == wanted || reached == "completed" || reached == kRunsAgain ||
               EndedBadly(reached);
      },
      timeout_ms, "QEMU to stop the VM and save its devices");
  RETURN_IF_ERROR(event.status());
  saved_ = reached == "completed";
  // One that its operator has stopped before tells nobody that it stands.
  const bool stands = reached == wanted || (wanted == kStands && saved_);
  return stands ? absl::OkStatus() : MigrationError(reached);
}

absl::Status QemuSourceVmm::MigrationError(std::string status) {
  std::string reason;
  if (absl::StatusOr<Json> migration = qmp_->Execute("query-migrate"); migration.ok()) {
    reason = JsonText(*migration, "error-desc");
    const std::string now = JsonText(*migration, "status");
    // A migration that is cancelled lets the VM run before it says so.
    if (status == kRunsAgain && now == "cancelling") status = "cancelled";
    if (status == kRunsAgain && EndedBadly(now)) status = now;
  }
  if (status == kRunsAgain) return RunsAgainError();
  if (status == "cancelled") reason = "somebody else ran migrate_cancel in its monitor";
  return absl::AbortedError(
      fmt::format("QEMU's saving of the VM's devices ended as '{}': {}", status,
                  reason.empty() ? "QEMU gives no reason here; its own log may" : reason));
}

absl::Status QemuSourceVmm::DoSaveDevices() {
  FAULTLINE_CHECK(qmp_ != nullptr && stream_ != nullptr);
  RETURN_IF_ERROR(CheckGuardian());
  if (pauses_before_switch_) {
    RETURN_IF_ERROR(qmp_->Execute("migrate-continue", {{"state", "pre-switchover"}}).status());
  }
  // Asked while QEMU saves, not before and not after: every round trip counts.
  ASSIGN_OR_RETURN(std::vector<RamBlock> blocks, ReadRamBlocks(qmp_.get(), kSaveTimeoutMs));
  if (blocks != blocks_) {
    return absl::AbortedError(
        "the VM's memory was changed (hot-plugged or removed) while it was being stopped: migrate "
        "again when that is done");
  }
  if (!saved_) RETURN_IF_ERROR(WaitForMigration("completed", kSaveTimeoutMs));
  RETURN_IF_ERROR(CheckStandsStill());
  RETURN_IF_ERROR(stream_->WaitForEnd(worker_.cancel(), kSaveTimeoutMs));
  return CheckGuardian();
}

// QEMU lets somebody else's 'cont' through once the devices are saved.
absl::Status QemuSourceVmm::CheckStandsStill() {
  ASSIGN_OR_RETURN(Json status, qmp_->Execute("query-status"));
  // It may have been stopped again. Events come before the answer to what is asked after them.
  const bool ran = JsonFlag(status, "running") || WasLetRun(qmp_.get());
  return ran ? MigrationError(kRunsAgain) : absl::OkStatus();
}

absl::Status QemuSourceVmm::DoRollback() {
  if (!touched_) return absl::OkStatus();  // another migration of this VM is not ours to end
  absl::Status status = Ask([this] { return RollBackSource(qmp_.get(), plan_); });
  stream_.reset();
  if (!status.ok()) return status;
  paused_ = false;
  if (guardian_ != nullptr) guardian_->StandDown();
  return status;
}

absl::Status QemuSourceVmm::DoRetire(bool quit) {
  FAULTLINE_CHECK(qmp_ != nullptr);
  stream_.reset();
  if (guardian_ != nullptr) guardian_->StandDown();
  absl::Status status = Ask([this] { return RestoreSettings(qmp_.get(), plan_.settings); });
  if (status.ok() && quit) status = Ask([this] { return Quit(); });
  // One that has ended already has done what `quit` asks.
  return quit && absl::IsUnavailable(status) ? absl::OkStatus() : status;
}

absl::Status QemuSourceVmm::Quit() {
  RETURN_IF_ERROR(qmp_->Execute("quit").status());
  absl::Status status;
  while (status.ok()) {
    // The monitor's connection ends with the process.
    status = qmp_->WaitForEvent([](const QmpEvent&) { return true; }, kRetireTimeoutMs,
                                "the source's QEMU to end")
                 .status();
  }
  return absl::IsUnavailable(status) ? absl::OkStatus() : status;
}

absl::Status QemuSourceVmm::Ask(const std::function<absl::Status()>& ask) {
  return AskAgainIfLost(
      &qmp_,
      {.path = options_.qmp_path, .cancel = worker_.cancel(), .process = &process_, .on_delay = {}},
      ask);
}

}  // namespace faultline
