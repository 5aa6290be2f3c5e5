#include "cli/session_host.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/logger.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <exception>

#include "base/monotonic_time.h"
#include "base/private_path.h"

namespace faultline {
namespace {

constexpr int64_t kLastWordsMs = 1000;

}  // namespace

SessionHost::SessionHost(const HostSettings& settings)
    : settings_(settings), record_(settings.record) {}

// A signal uses the console.
SessionHost::~SessionHost() { signals_.reset(); }

absl::Status SessionHost::Open(const CommandParts& parts) {
  absl::StatusOr<CancelSwitch> cancel = CancelSwitch::Make();
  absl::Status early = cancel.status();
  if (cancel.ok()) {
    cancel_ = std::make_unique<CancelSwitch>(std::move(*cancel));
    auto signals = SignalWatcher::Start([this](const std::string& name) { OnSignal(name); });
    early = signals.status();
    if (signals.ok()) signals_ = std::move(*signals);
  }
  // The output comes even if those failed: the reason must be told.
  console_ = std::make_unique<Console>();
  log_ = MakeLogger(console_.get());
  reporter_ = settings_.json
                  ? MakeJsonReporter(console_.get(), log_.get(), settings_.role)
                  : MakeTextReporter(console_.get(), log_.get(), Console::ErrorIsTerminal());
  RETURN_IF_ERROR(early);

  ASSIGN_OR_RETURN(RunDirectory run_directory, RunDirectory::Open(settings_.run_directory));
  run_directory_ = std::make_unique<RunDirectory>(std::move(run_directory));
  RETURN_IF_ERROR(OpenJournal(parts));
  SessionState state;
  state.role = settings_.role;
  state.migration_id = migration_id_;
  state.id_agreed = settings_.role == Role::kSource || settings_.resume != nullptr;
  state.endpoint = record_.endpoint;
  board_ = std::make_unique<StatusBoard>(state);
  ASSIGN_OR_RETURN(
      server_, StatusServer::Start(run_directory_->PathOf(migration_id_, settings_.role, "sock"),
                                   board_.get(), cancel_.get()));
  if (settings_.role == Role::kSource) reporter_->Started(migration_id_);
  return absl::OkStatus();
}

absl::Status SessionHost::OpenJournal(const CommandParts& parts) {
  if (settings_.resume == nullptr) {
    ASSIGN_OR_RETURN(migration_id_, MakeMigrationId());
    ASSIGN_OR_RETURN(journal_,
                     parts.create_journal({journal_path(), settings_.role, migration_id_}));
  } else {
    migration_id_ = settings_.resume->migration_id;
    ASSIGN_OR_RETURN(journal_, parts.open_journal({journal_path(), settings_.role, migration_id_}));
    // It was looked at before this command had it to itself.
    ASSIGN_OR_RETURN(JournalContent now, ReadJournal(journal_path()));
    if (std::string why = WhyNotUnfinished(now, settings_.role); !why.empty()) {
      return absl::FailedPreconditionError(
          fmt::format("migration {} cannot be taken up again: {}", migration_id_, why));
    }
    // The name from before it was agreed, which the one before could not remove any more.
    const std::string& first_id = settings_.resume->journal.migration_id;
    if (first_id != migration_id_) {
      (void)unlink(run_directory_->PathOf(first_id, settings_.role, "journal").c_str());
    }
  }
  return WriteRecord(run_directory_->PathOf(migration_id_, settings_.role, "command"), record_);
}

// While nobody has come a record that cannot be written is no reason to fail; see NameFiles.
void SessionHost::KeepRecord() {
  record_kept_ =
      WriteRecord(run_directory_->PathOf(migration_id_, settings_.role, "command"), record_);
  if (!record_kept_.ok()) log_->warn("{}", MessageOf(record_kept_));
}

void SessionHost::RecordSockets(const std::string& qmp_path, const std::string& hook_path) {
  record_.qmp_path = qmp_path;
  record_.hook_path = hook_path;
  KeepRecord();
}

std::string SessionHost::journal_path() const {
  return run_directory_->PathOf(migration_id_, settings_.role, "journal");
}

SessionResult SessionHost::Run(Session* session) {
  SessionResult result;
  cancel_->Attach(session);
  try {
    result = session->Run(this);
  } catch (const std::exception& error) {
    result = ResultOfException(error.what());
  }
  cancel_->Detach();
  return result;
}

SessionResult SessionHost::ResultOfException(const std::string& what) const {
  SessionState state = board_->Get();
  SessionResult result;
  result.status = absl::InternalError(fmt::format("the session broke off: {}", what));
  result.last = state.progress;
  if (state.id_agreed) result.migration_id = state.migration_id;
  if (PastHandover(state.phase)) {
    result.owner = VmOwner::kDestination;
  } else if (state.phase == Phase::kHandingOver) {
    result.owner = VmOwner::kUndecided;
  }
  return result;
}

ExitStatus SessionHost::Finish(const SessionResult& result) {
  return End(result, ExitStatusOf(result));
}

ExitStatus SessionHost::Fail(const absl::Status& status) {
  SessionResult result;
  result.status = status;
  if (settings_.resume != nullptr) {
    result.owner =
        settings_.resume->journal.committed ? VmOwner::kDestination : VmOwner::kUndecided;
  }
  return End(result, ExitStatusOf(result));
}

ExitStatus SessionHost::Refuse(const absl::Status& status) {
  SessionResult result;
  result.status = status;
  return End(result, ExitStatus::kUsage);
}

ExitStatus SessionHost::End(const SessionResult& result, ExitStatus exit_status) {
  // Whoever asks from now on must not find a socket that does nothing.
  server_.reset();
  Outcome outcome;
  outcome.role = settings_.role;
  outcome.result = result;
  outcome.elapsed_us = static_cast<uint64_t>(MonotonicUs()) - settings_.started_us;
  if (outcome.result.migration_id.empty() && settings_.role == Role::kSource) {
    outcome.result.migration_id = migration_id_;
  }
  if (outcome.result.transport.empty()) {
    outcome.result.transport = record_.endpoint.substr(0, record_.endpoint.find("://"));
  }
  WriteEnded(outcome);
  if (run_directory_ != nullptr) run_directory_->RemoveOld();
  reporter_->Ended(outcome);
  final_status_.store(static_cast<int>(exit_status), std::memory_order_release);
  console_->Flush();
  return exit_status;
}

void SessionHost::WriteEnded(const Outcome& outcome) {
  if (run_directory_ == nullptr || migration_id_.empty()) return;
  if (settings_.resume == nullptr && (board_ == nullptr || !board_->Get().id_agreed)) {
    // No migration ever was: nothing that anybody could ask for.
    (void)unlink(journal_path().c_str());
    (void)unlink(run_directory_->PathOf(migration_id_, settings_.role, "command").c_str());
    return;
  }
  if (!first_journal_path_.empty()) (void)unlink(first_journal_path_.c_str());
  const bool over = outcome.result.status.ok() || outcome.result.owner == VmOwner::kSource;
  // A destination may have ended well and not have been able to tell the source.
  absl::StatusOr<JournalContent> journal = ReadJournal(journal_path());
  const bool goes_on = journal.ok() && WhyNotUnfinished(*journal, settings_.role).empty();
  if (over && !goes_on) {
    (void)unlink(run_directory_->PathOf(migration_id_, settings_.role, "command").c_str());
  }
  std::string path = run_directory_->PathOf(migration_id_, settings_.role, "json");
  absl::StatusOr<FileDescriptor> fd = MakePrivateFile(AT_FDCWD, path, O_WRONLY);
  std::string line = ToLine(OutcomeJson(outcome)) + "\n";
  if (!fd.ok() || write(fd->get(), line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
    log_->warn("cannot write '{}', so 'faultline status' will not know how this ended", path);
  }
}

void SessionHost::OnSignal(const std::string& name) {
  int final_status = final_status_.load(std::memory_order_acquire);
  if (final_status >= 0) {
    // All that is left is output that nobody may be reading; the last line deserves a try.
    (void)console_->FlushWithin(kLastWordsMs);
    _exit(final_status);
  }
  cancel_->Request(fmt::format("interrupted by {}", name));
}

void SessionHost::OnListening(const std::string& address) {
  record_.endpoint = address;
  KeepRecord();
  board_->SetEndpoint(address);
  reporter_->Listening(address, listening_extra_);
}

void SessionHost::OnPhase(Phase phase, const std::string& migration_id) {
  if (!migration_id.empty() && migration_id != migration_id_ && !id_refused_) AdoptId(migration_id);
  board_->SetPhase(phase);
  reporter_->PhaseChanged(phase, migration_id,
                          static_cast<uint64_t>(MonotonicUs()) - settings_.started_us);
}

// The source named the migration: the files that carry the provisional id get its name. If they
// cannot, nobody could take it up again after the handover, so it ends here.
void SessionHost::AdoptId(const std::string& migration_id) {
  if (absl::Status named = NameFiles(migration_id); !named.ok()) {
    id_refused_ = true;
    cancel_->Request(
        fmt::format("{}; the migration could not be taken up again without it: make room in '{}' "
                    "if it is full, "
                    "and migrate again",
                    MessageOf(named), run_directory_->path()));
    return;
  }
  absl::Status moved =
      server_->MoveTo(run_directory_->PathOf(migration_id_, settings_.role, "sock"));
  if (!moved.ok()) log_->warn("{}", MessageOf(moved));
  board_->SetAgreedId(migration_id_);
}

absl::Status SessionHost::NameFiles(const std::string& migration_id) {
  const std::string first_record = run_directory_->PathOf(migration_id_, settings_.role, "command");
  const std::string record = run_directory_->PathOf(migration_id, settings_.role, "command");
  const std::string journal = run_directory_->PathOf(migration_id, settings_.role, "journal");
  // What could not be written before is not in it.
  if (!record_kept_.ok()) RETURN_IF_ERROR(WriteRecord(first_record, record_));
  // A program may try again under the id of a migration that came to nothing.
  if (absl::StatusOr<JournalContent> before = ReadJournal(journal);
      before.ok() && !WhyNotUnfinished(*before, settings_.role).empty()) {
    (void)unlink(journal.c_str());
  }
  // A second name, not another one: the journal and the guardian know the first.
  if (link(journal_path().c_str(), journal.c_str()) < 0) {
    return ErrnoStatus(errno, fmt::format("name the journal '{}'", journal));
  }
  if (rename(first_record.c_str(), record.c_str()) < 0) {
    const int error_number = errno;
    (void)unlink(journal.c_str());
    return ErrnoStatus(error_number, fmt::format("name the command's record '{}'", record));
  }
  first_journal_path_ = journal_path();
  migration_id_ = migration_id;
  return absl::OkStatus();
}

void SessionHost::OnProgress(const ProgressSnapshot& snapshot) {
  board_->SetProgress(snapshot);
  reporter_->Progressed(snapshot);
}

void SessionHost::OnNotice(const std::string& text) { reporter_->Noticed(text); }

}  // namespace faultline
