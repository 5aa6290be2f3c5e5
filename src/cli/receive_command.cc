#include "cli/receive_command.h"

#include <fmt/format.h>
#include <spdlog/logger.h>
#include <unistd.h>

#include <cstdlib>

#include "cli/hook_library.h"
#include "cli/qemu_arguments.h"
#include "cli/qemu_process.h"
#include "cli/run_directory.h"
#include "cli/session_host.h"
#include "cli/subprocess.h"
#include "cli/usage.h"

namespace faultline {
namespace {

// QEMU zeroes all its memory before its monitor answers where `prealloc=on` is set.
constexpr int kQemuStartTimeoutMs = 120'000;
constexpr int kQemuHelpTimeoutMs = 10'000;

absl::StatusOr<SessionRecord> ToRecord(const ReceiveCommand& command, const Unfinished* resume) {
  SessionRecord record;
  if (resume != nullptr) record = resume->record;
  if (!command.listen_uri.empty()) record.endpoint = command.listen_uri;
  if (record.endpoint.empty()) {
    return absl::InvalidArgumentError("--listen is required: where to wait for the source");
  }
  RETURN_IF_ERROR(CheckUri(record.endpoint, "--listen"));
  RETURN_IF_ERROR(TakeOptions(command.common, &record));
  record.huge_pages = record.huge_pages || command.huge_pages;
  if (command.read_around.has_value()) record.read_around = *command.read_around;
  record.insecure = record.insecure || command.insecure;
  if (command.tls.given()) record.tls = AbsolutePaths(command.tls);
  bool has_sockets = !command.qmp.empty() || !command.hook.empty();
  if (command.has_qemu_command) {
    if (has_sockets || resume != nullptr) {
      return absl::InvalidArgumentError(
          "--qmp, --hook and --resume are for a QEMU that runs already: leave them out, or leave "
          "out '--' and what follows it");
    }
    RETURN_IF_ERROR(CheckQemuCommand(command.qemu_command));
    return record;
  }
  if (!command.qmp.empty()) {
    ASSIGN_OR_RETURN(record.qmp_path, ParseSocketPath(command.qmp, "--qmp"));
  }
  if (!command.hook.empty()) {
    ASSIGN_OR_RETURN(record.hook_path, ParseSocketPath(command.hook, "--hook"));
  }
  if (record.qmp_path.empty() || record.hook_path.empty()) {
    return absl::InvalidArgumentError(
        "tell where the destination QEMU is: --qmp unix:PATH and --hook unix:PATH of one that "
        "waits with '-incoming defer', or '-- qemu-system-x86_64 ARGS...' to start one");
  }
  return record;
}

absl::StatusOr<ReceiveOptions> ToOptions(const ReceiveCommand& command, const SessionRecord& record,
                                         const Unfinished* resume) {
  ReceiveOptions options;
  options.listen_uri = record.endpoint;
  options.qmp_path = record.qmp_path;
  options.hook_path = record.hook_path;
  options.poll_us = record.poll_us;
  options.read_around = record.read_around;
  options.huge_pages = record.huge_pages;
  options.confine = record.confine;
  const KeptMigration* kept = resume != nullptr ? &*resume->journal.kept : nullptr;
  ASSIGN_OR_RETURN(options.integrity, ParseIntegrity(command.common.integrity, kept));
  options.insecure = record.insecure;
  options.tls = record.tls;
  options.rdma = record.rdma;
  options.recovery_timeout_us = record.recovery_timeout_us;
  if (resume != nullptr) {
    options.resume = resume->journal.kept;
    options.resume_committed = resume->journal.committed;
    options.resume_whole = resume->journal.whole();
    options.resume_released = resume->journal.released();
  }
  return options;
}

// The socket files of a QEMU that this command started: gone with it if it is ended.
struct QemuSockets {
  std::string qmp_path;
  std::string hook_path;

  void Remove() const {
    (void)unlink(qmp_path.c_str());
    (void)unlink(hook_path.c_str());
  }
};

QemuSockets SocketsOf(const SessionHost& host) {
  const RunDirectory& directory = host.run_directory();
  return {directory.PathOf(host.migration_id(), Role::kDestination, "qmp"),
          directory.PathOf(host.migration_id(), Role::kDestination, "hook")};
}

absl::StatusOr<QemuPlan> MakePlan(const ReceiveCommand& command, const QemuSockets& sockets) {
  QemuPlanInput input;
  input.command = command.qemu_command;
  input.qmp_path = sockets.qmp_path;
  input.hook_path = sockets.hook_path;
  ASSIGN_OR_RETURN(input.hook_library, FindHookLibrary(command.hook_library));
  if (const char* preload = getenv("LD_PRELOAD")) input.preload = preload;
  ASSIGN_OR_RETURN(CapturedOutput help,
                   RunAndCapture({command.qemu_command[0], "--help"}, kQemuHelpTimeoutMs));
  input.help_text = std::move(help.text);
  return PlanQemu(input);
}

ExitStatus RefuseOrFail(SessionHost* host, const absl::Status& status) {
  return absl::IsInvalidArgument(status) ? host->Refuse(status) : host->Fail(status);
}

// Runs the session beside the QEMU that this command started, and ends that QEMU unless it has the
// VM.
ExitStatus RunWithQemu(const CommandParts& parts, ReceiveOptions options, QemuProcess* qemu,
                       SessionHost* host) {
  host->AddToListening(
      {{"qemu_pid", qemu->pid()}, {"qmp", options.qmp_path}, {"qemu_log", qemu->log_path()}});
  absl::StatusOr<std::unique_ptr<Session>> session = parts.make_receive(options, host->journal());
  if (!session.ok()) return RefuseOrFail(host, session.status());
  SessionResult result = host->Run(session->get());
  if (result.status.ok() || result.owner != VmOwner::kSource) {
    qemu->LetGo();
  } else if (std::string tail = qemu->LogTail(); !tail.empty()) {
    host->log()->info("the destination QEMU's log ({}) ends with:\n{}", qemu->log_path(), tail);
  }
  return host->Finish(result);
}

ExitStatus StartQemuAndReceive(const CommandParts& parts, const ReceiveCommand& command,
                               ReceiveOptions options, SessionHost* host) {
  QemuSockets sockets = SocketsOf(*host);
  options.qmp_path = sockets.qmp_path;
  options.hook_path = sockets.hook_path;
  host->RecordSockets(options.qmp_path, options.hook_path);
  // What the session would refuse is refused before a QEMU is started.
  absl::Status fit = parts.make_receive(options, host->journal()).status();
  if (!fit.ok()) return RefuseOrFail(host, fit);
  absl::StatusOr<QemuPlan> plan = MakePlan(command, sockets);
  if (!plan.ok()) return RefuseOrFail(host, plan.status());

  std::string log_path =
      host->run_directory().PathOf(host->migration_id(), Role::kDestination, "qemu.log");
  absl::StatusOr<std::unique_ptr<QemuProcess>> qemu = QemuProcess::Start(*plan, log_path);
  if (!qemu.ok()) return host->Fail(qemu.status());
  absl::Status serving = (*qemu)->WaitUntilServing({sockets.qmp_path, sockets.hook_path},
                                                   host->cancel().event_fd(), kQemuStartTimeoutMs);
  ExitStatus exit_status = ExitStatus::kFailed;
  if (serving.ok()) {
    exit_status = RunWithQemu(parts, options, qemu->get(), host);
  } else {
    std::string reason = host->cancel().reason();
    exit_status = host->Fail(reason.empty() ? serving : Annotate(serving, reason));
  }
  bool ended = !(*qemu)->let_go();
  qemu->reset();
  if (ended) sockets.Remove();
  return exit_status;
}

ExitStatus Receive(const CommandParts& parts, const ReceiveCommand& command, uint64_t started_us,
                   const Unfinished* resume) {
  absl::StatusOr<SessionRecord> record = ToRecord(command, resume);
  if (!record.ok()) return UsageError(record.status(), "receive");
  absl::StatusOr<ReceiveOptions> options = ToOptions(command, *record, resume);
  if (!options.ok()) return UsageError(options.status(), "receive");
  HostSettings settings;
  settings.role = Role::kDestination;
  settings.record = *record;
  settings.resume = resume;
  settings.run_directory = command.run_directory;
  settings.json = command.json;
  settings.started_us = started_us;
  SessionHost host(settings);
  if (absl::Status opened = host.Open(parts); !opened.ok()) return host.Fail(opened);
  options->journal_path = host.journal_path();
  if (command.has_qemu_command) return StartQemuAndReceive(parts, command, *options, &host);

  absl::StatusOr<std::unique_ptr<Session>> session = parts.make_receive(*options, host.journal());
  if (!session.ok()) return RefuseOrFail(&host, session.status());
  SessionResult result = host.Run(session->get());
  return host.Finish(result);
}

}  // namespace

ExitStatus RunReceive(const CommandParts& parts, const ReceiveCommand& command,
                      uint64_t started_us) {
  if (!command.resume) return Receive(parts, command, started_us, nullptr);
  absl::StatusOr<Unfinished> unfinished =
      FindInRunDirectory(command.run_directory, Role::kDestination, command.resume_id);
  if (!unfinished.ok()) return UsageError(unfinished.status(), "receive");
  return Receive(parts, command, started_us, &*unfinished);
}

}  // namespace faultline
