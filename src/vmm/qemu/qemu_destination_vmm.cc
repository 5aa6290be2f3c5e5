#include "vmm/qemu/qemu_destination_vmm.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/check.h"

namespace faultline {
namespace {

constexpr int64_t kDiscardTimeoutMs = 1000;
constexpr int64_t kKillTimeoutMs = 10000;

}  // namespace

QemuDestinationVmm::QemuDestinationVmm(QemuDestinationOptions options, Executor* control)
    : options_(std::move(options)), worker_(control) {}

QemuDestinationVmm::~QemuDestinationVmm() = default;

void QemuDestinationVmm::Prepare(VmmDescribed done) {
  std::string journal_path = options_.journal_path ? options_.journal_path() : "";
  auto ends = MakeSocketPair();
  absl::Status made = ends.status();
  if (ends.ok()) {
    stream_ = std::make_unique<DeviceStreamWriter>(std::move(ends->first));
    stream_for_qemu_ = std::move(ends->second);
  }
  worker_.Run<absl::StatusOr<VmDescription>>(
      [this, made, journal_path]() -> absl::StatusOr<VmDescription> {
        RETURN_IF_ERROR(made);
        return DoPrepare(journal_path);
      },
      std::move(done));
}

void QemuDestinationVmm::DescribeAgain(VmmDescribed done) {
  worker_.Run<absl::StatusOr<VmDescription>>([this] { return DoDescribeAgain(); }, std::move(done));
}

void QemuDestinationVmm::Load(VmmDone done) {
  worker_.Run<absl::Status>([this] { return DoLoad(); }, std::move(done));
}

void QemuDestinationVmm::FeedDeviceState(std::span<const std::byte> bytes) {
  if (stream_ != nullptr) stream_->Feed(bytes);
}

void QemuDestinationVmm::EndDeviceState() {
  if (stream_ != nullptr) stream_->End();
  state_ended_.Set();
}

void QemuDestinationVmm::TakeOver(bool run, VmmDone done) {
  worker_.Run<absl::Status>([this, run] { return DoTakeOver(run); }, std::move(done));
  if (!run) return;
  // After `done`, outside the downtime. The network learns the VM's place from these packets, and
  // its guest goes on all the same if they fail.
  worker_.Run<absl::Status>(
      [this] {
        qmp_->Execute("announce-self",
                      {{"initial", 50}, {"max", 550}, {"rounds", 5}, {"step", 100}},
                      QmpClient::kNoTimeout)
            .IgnoreError();
        return absl::OkStatus();
      },
      [](absl::Status) {});
}

void QemuDestinationVmm::SetPaused(bool paused, VmmDone done) {
  worker_.Run<absl::Status>([this, paused] { return DoSetPaused(paused); }, std::move(done));
}

void QemuDestinationVmm::Finish(VmmDone done) {
  worker_.Run<absl::Status>([this] { return DoFinish(); }, std::move(done));
}

void QemuDestinationVmm::Discard(VmmDone done) {
  worker_.CancelAll();
  worker_.Run<absl::Status>([this] { return DoDiscard(); }, std::move(done));
}

absl::StatusOr<VmDescription> QemuDestinationVmm::DoPrepare(const std::string& journal_path) {
  ASSIGN_OR_RETURN(qmp_, QmpClient::Connect(options_.qmp_path, worker_.cancel()));
  ASSIGN_OR_RETURN(process_, MonitoredProcess::Find(qmp_.get()));
  ASSIGN_OR_RETURN(prepared_, DiscoverVm(qmp_.get(), DiscoverAs::kDestination));
  may_discard_ = true;  // it waits, so it is not at work for anybody
  RETURN_IF_ERROR(ApplyDestinationSettings(qmp_.get(), prepared_.facts, &settings_));
  // While QEMU waits, 'stop' means: do not start by yourself after the load. Here, and not in Load,
  // because Load is downtime; the same for the stream's descriptor.
  RETURN_IF_ERROR(qmp_->Execute("stop").status());
  RETURN_IF_ERROR(qmp_->SendDescriptor(kDeviceStreamName, stream_for_qemu_.get()));
  stream_for_qemu_.Reset();
  RETURN_IF_ERROR(StartGuardian(journal_path));
  return prepared_.description;
}

absl::Status QemuDestinationVmm::StartGuardian(const std::string& journal_path) {
  if (journal_path.empty() || !process_.known()) return absl::OkStatus();
  Guardian::Setup setup;
  setup.side = Guardian::Side::kDestination;
  setup.journal_path = journal_path;
  setup.monitor = qmp_->fd();
  setup.monitor_path = qmp_->path();
  setup.process = process_.pidfd();
  ASSIGN_OR_RETURN(guardian_, Guardian::Spawn(setup));
  return guardian_->AwaitReady();
}

absl::StatusOr<VmDescription> QemuDestinationVmm::DoDescribeAgain() {
  FAULTLINE_CHECK(qmp_ != nullptr);
  // This is downtime: one round trip, and the long way only if something has changed.
  ASSIGN_OR_RETURN(std::vector<RamBlock> blocks, ReadRamBlocks(qmp_.get()));
  if (blocks == prepared_.facts.blocks) return prepared_.description;
  ASSIGN_OR_RETURN(described_again_, DiscoverVm(qmp_.get(), DiscoverAs::kDestination));
  return described_again_.description;
}

absl::Status QemuDestinationVmm::DoLoad() {
  FAULTLINE_CHECK(qmp_ != nullptr);
  qmp_->DropEvents();
  Json arguments = {{"uri", fmt::format("fd:{}", kDeviceStreamName)}};
  // Since 9.1 QEMU can survive a failed load and tell what was wrong.
  bool tells_reason = prepared_.facts.version.AtLeast(9, 1);
  if (tells_reason) arguments["exit-on-error"] = false;
  absl::Status begun = qmp_->Execute("migrate-incoming", arguments, QmpClient::kNoTimeout).status();
  if (!begun.ok()) return LoadError(begun);
  std::string reached;
  bool started = false;
  absl::Status ended =
      qmp_->WaitForEvent(
              [&](const QmpEvent& event) {
                started = started || event.name == "RESUME";
                if (event.name != "MIGRATION") return false;
                reached = JsonText(event.data, "status");
                return reached == "completed" || reached == "failed";
              },
              QmpClient::kNoTimeout, "the destination's QEMU to load the VM's devices")
          .status();
  if (!ended.ok()) return LoadError(ended);
  if (reached == "failed") {
    absl::StatusOr<Json> migration = qmp_->Execute("query-migrate");
    std::string reason = migration.ok() ? JsonText(*migration, "error-desc") : std::string();
    return LoadError(reason.empty() ? absl::UnavailableError("") : absl::AbortedError(reason));
  }
  if (started) {
    return absl::FailedPreconditionError(
        "the destination's QEMU started the VM by itself after the load: somebody else ran 'cont' "
        "in its monitor");
  }
  return CheckAliveAtTheEnd();
}

// QEMU knows that the state is whole before the source has said so, and may end in between. The
// source hands the VM over as soon as it hears that the load is done, so that comes last.
absl::Status QemuDestinationVmm::CheckAliveAtTheEnd() {
  RETURN_IF_ERROR(WaitForDescriptor(state_ended_.fd(), POLLIN, worker_.cancel(), Deadline::Never(),
                                    "the end of the VM's device state"));
  if (!process_.ended()) return absl::OkStatus();
  return absl::AbortedError(
      "the destination's QEMU ended after it had loaded the VM's devices (its reason stands in its "
      "own log): start it again, and migrate again");
}

absl::Status QemuDestinationVmm::LoadError(const absl::Status& cause) {
  if (absl::IsCancelled(cause)) return cause;
  constexpr const char* kMend =
      "most often a device of the source is missing or different here: compare both QEMU command "
      "lines";
  if (absl::IsUnavailable(cause)) {
    return absl::AbortedError(
        fmt::format("the destination's QEMU ended while it loaded the VM's devices (its reason "
                    "stands in its own log; {})",
                    kMend));
  }
  return absl::AbortedError(fmt::format(
      "the destination's QEMU could not load the VM's devices: {} ({})", MessageOf(cause), kMend));
}

absl::Status QemuDestinationVmm::DoTakeOver(bool run) {
  FAULTLINE_CHECK(qmp_ != nullptr);
  may_discard_ = false;
  absl::Status status = run ? DoSetPaused(false) : absl::OkStatus();
  if (guardian_ != nullptr) guardian_->StandDown();
  if (options_.at_handover) options_.at_handover();
  return status;
}

absl::Status QemuDestinationVmm::DoSetPaused(bool paused) {
  return AskAgainIfLost(&qmp_, Call(/*patient=*/true), [&] {
    return qmp_->Execute(paused ? "stop" : "cont", Json::object(), QmpClient::kNoTimeout).status();
  });
}

absl::Status QemuDestinationVmm::DoFinish() {
  return AskAgainIfLost(&qmp_, Call(/*patient=*/false),
                        [this] { return RestoreSettings(qmp_.get(), settings_); });
}

MonitorCall QemuDestinationVmm::Call(bool patient) {
  MonitorCall call{
      .path = options_.qmp_path, .cancel = worker_.cancel(), .process = &process_, .on_delay = {}};
  if (!patient) return call;
  call.patience_ms = QmpClient::kGreetingTimeoutMs;
  call.on_delay = [this](const std::string& text) {
    worker_.PostToControl([this, text] {
      if (notice_) notice_(text);
    });
  };
  return call;
}

absl::Status QemuDestinationVmm::DoDiscard() {
  if (qmp_ == nullptr) return absl::OkStatus();
  if (!may_discard_) {
    // It was not waiting when it was looked at, or the VM was handed over: then it is not ours to
    // end.
    return absl::OkStatus();
  }
  absl::Status status = qmp_->Execute("quit", Json::object(), kDiscardTimeoutMs).status();
  if (status.ok() && process_.known()) {
    status = WaitForDescriptor(process_.pidfd(), POLLIN, worker_.cancel(),
                               Deadline::After(kDiscardTimeoutMs), "the destination's QEMU to end");
  }
  if (!status.ok()) RETURN_IF_ERROR(KillQemu());
  may_discard_ = false;
  if (guardian_ != nullptr) guardian_->StandDown();
  return absl::OkStatus();
}

absl::Status QemuDestinationVmm::KillQemu() {
  if (!process_.known()) {
    return absl::UnavailableError(
        "the destination's QEMU does not answer 'quit' and runs in another process namespace: end "
        "it by hand");
  }
  if (syscall(SYS_pidfd_send_signal, process_.pidfd(), SIGKILL, nullptr, 0) < 0 && errno != ESRCH) {
    return ErrnoStatus(errno, "end the destination's QEMU");
  }
  return WaitForDescriptor(process_.pidfd(), POLLIN, worker_.cancel(),
                           Deadline::After(kKillTimeoutMs), "the destination's QEMU to end");
}

}  // namespace faultline
