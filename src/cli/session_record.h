// What a command was told, kept in the run directory for the one that takes its migration up again.
#ifndef FAULTLINE_CLI_SESSION_RECORD_H_
#define FAULTLINE_CLI_SESSION_RECORD_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "assembly/sessions.h"
#include "base/status.h"
#include "cli/run_directory.h"
#include "runtime/journal/file_journal.h"

namespace faultline {

// In ID.ROLE.command, as one JSON object.
struct SessionRecord {
  std::string endpoint;  // --to; or where it listened, with the real port
  std::string qmp_path;
  std::string hook_path;          // source: for the modes that send before the switch
  std::string mode = "postcopy";  // source
  std::string compress = "auto";
  std::string push_order;  // empty: the default
  TlsChoice tls;           // with absolute paths
  RdmaChoice rdma;
  uint64_t bandwidth_bytes_per_second = 0;
  int64_t poll_us = 0;
  int64_t recovery_timeout_us = 0;  // 0: no limit
  bool read_around = true;          // destination
  bool huge_pages = false;          // destination
  bool confine = true;              // gives up the rights that it does not need
  bool insecure = false;
  bool quit_source = false;
  friend bool operator==(const SessionRecord&, const SessionRecord&) = default;
};

// What both commands are told alike; what was left out stays as `record` has it. InvalidArgument
// names the option.
struct CommonOptions {
  std::optional<int64_t> poll_us;
  RdmaChoice rdma;               // each, empty: left out
  std::string recovery_timeout;  // empty: left out
  std::string sandbox;           // "on", "off"; empty: left out
  std::string integrity;         // not in the record: the journal keeps what was agreed on
};
absl::Status TakeOptions(const CommonOptions& given, SessionRecord* record);

// The one that takes up again may be started in another folder.
TlsChoice AbsolutePaths(TlsChoice choice);

// Its line in the file, without the end, and back. InvalidArgument: the text is no record; what is
// absent or of another type in it has its default. Bytes that are not UTF-8 are replaced.
std::string RecordLine(const SessionRecord& record);
absl::StatusOr<SessionRecord> ParseRecord(const std::string& text);

// Replaces what was there; readable by this user only.
absl::Status WriteRecord(const std::string& path, const SessionRecord& record);

// A migration that was handed over (or may have been), and whose command has died.
struct Unfinished {
  std::string migration_id;
  std::string journal_path;
  JournalContent journal;  // with `kept`
  SessionRecord record;
};

// The one that `id` names: its first digits, or empty for the only one. NotFound: there is none, or
// it is not one that can be taken up; FailedPrecondition: there are several, or it still runs.
absl::StatusOr<Unfinished> FindUnfinished(const RunDirectory& directory, Role role,
                                          const std::string& id);
// The same, in the run directory at `path` (empty: the default one).
absl::StatusOr<Unfinished> FindInRunDirectory(const std::string& path, Role role,
                                              const std::string& id);
// Why a migration with this journal cannot be taken up again; empty if it can.
std::string WhyNotUnfinished(const JournalContent& journal, Role role);
// Refuses to begin a new migration of the VM behind the monitor `qmp_path` while one from here is
// not finished: FailedPrecondition names what goes on with it.
absl::Status CheckNoneUnfinished(const RunDirectory& directory, const std::string& qmp_path);
// All of them; those whose files cannot be read are left out.
absl::StatusOr<std::vector<Unfinished>> ListUnfinished(const RunDirectory& directory, Role role);

}  // namespace faultline

#endif  // FAULTLINE_CLI_SESSION_RECORD_H_
