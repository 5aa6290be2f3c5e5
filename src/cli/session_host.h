// What surrounds a session in a command: signals, the status socket, the journal, the output.
#ifndef FAULTLINE_CLI_SESSION_HOST_H_
#define FAULTLINE_CLI_SESSION_HOST_H_

#include <atomic>
#include <memory>
#include <string>

#include "cli/cancel_switch.h"
#include "cli/command_parts.h"
#include "cli/console.h"
#include "cli/exit_status.h"
#include "cli/reporter.h"
#include "cli/run_directory.h"
#include "cli/session_record.h"
#include "cli/signal_watcher.h"
#include "cli/status_board.h"
#include "cli/status_server.h"

namespace faultline {

struct HostSettings {
  Role role = Role::kSource;
  SessionRecord record;  // what the command was told; its endpoint is --to or --listen
  // The migration that is taken up again; null: a new one.
  const Unfinished* resume = nullptr;
  std::string run_directory;  // empty: the default one
  bool json = false;
  uint64_t started_us = 0;  // the command's start, on MonotonicUs's clock
};

// One command's surroundings, from its start to its exit. Construct it before there are other
// threads. Every command ends with exactly one of Run, Fail and Refuse.
class SessionHost final : private SessionObserver {
 public:
  explicit SessionHost(const HostSettings& settings);
  ~SessionHost() override;

  // Takes signals, opens the run directory, serves the status socket, creates the journal. A
  // destination gets a provisional id, until the source tells it the right one. A migration that is
  // taken up again has its id and its journal.
  absl::Status Open(const CommandParts& parts);

  const RunDirectory& run_directory() const { return *run_directory_; }
  const std::string& migration_id() const { return migration_id_; }
  std::string journal_path() const;
  Journal* journal() const { return journal_.get(); }
  // From the first request to stop, by a signal or from another shell.
  const CancelSwitch& cancel() const { return *cancel_; }
  spdlog::logger* log() const { return log_.get(); }
  // The sockets of a QEMU that this command starts.
  void RecordSockets(const std::string& qmp_path, const std::string& hook_path);
  // Added to a destination's "listening" object.
  void AddToListening(const OutputJson& extra) { listening_extra_ = extra; }

  // Runs the session to its end. Finish must follow.
  SessionResult Run(Session* session);
  // Says how it ended, and returns the exit status. Nothing is waited for but stdout's reader.
  ExitStatus Finish(const SessionResult& result);
  // The command failed before there was a session: the VM is the source's.
  ExitStatus Fail(const absl::Status& status);
  // What was asked makes no sense: Fail with the exit status for bad usage.
  ExitStatus Refuse(const absl::Status& status);

 private:
  void OnListening(const std::string& address) override;
  void OnPhase(Phase phase, const std::string& migration_id) override;
  void OnProgress(const ProgressSnapshot& snapshot) override;
  void OnNotice(const std::string& text) override;

  void OnSignal(const std::string& name);
  absl::Status OpenJournal(const CommandParts& parts);
  void AdoptId(const std::string& migration_id);
  absl::Status NameFiles(const std::string& migration_id);
  void KeepRecord();
  void WriteEnded(const Outcome& outcome);
  SessionResult ResultOfException(const std::string& what) const;
  ExitStatus End(const SessionResult& result, ExitStatus exit_status);

  const HostSettings settings_;
  // Set when the story has been told and only stdout's reader is waited for.
  std::atomic<int> final_status_{-1};
  SessionRecord record_;
  std::string migration_id_;
  std::string first_journal_path_;  // under the provisional id; empty while that is the only name
  absl::Status record_kept_;        // whether the last KeepRecord succeeded
  bool id_refused_ = false;         // the files could not get the source's id
  OutputJson listening_extra_ = OutputJson::object();

  // In the order in which they are made; signals are blocked before the first thread starts.
  std::unique_ptr<CancelSwitch> cancel_;
  std::unique_ptr<SignalWatcher> signals_;
  std::unique_ptr<Console> console_;
  std::shared_ptr<spdlog::logger> log_;
  std::unique_ptr<Reporter> reporter_;
  std::unique_ptr<RunDirectory> run_directory_;
  std::unique_ptr<Journal> journal_;
  std::unique_ptr<StatusBoard> board_;
  std::unique_ptr<StatusServer> server_;
};

}  // namespace faultline

#endif  // FAULTLINE_CLI_SESSION_HOST_H_
