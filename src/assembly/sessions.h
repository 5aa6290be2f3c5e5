// Whole migrations from options: the only place that names implementations.
#ifndef FAULTLINE_ASSEMBLY_SESSIONS_H_
#define FAULTLINE_ASSEMBLY_SESSIONS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "engine/session_report.h"
#include "seams/compression.h"
#include "seams/journal.h"

namespace faultline {

struct MigrateOptions {
  std::string to_uri;        // tcp://HOST:PORT
  std::string qmp_path;      // the source QEMU's monitor socket
  std::string migration_id;  // 32 hexadecimal digits
  std::string journal_path;  // where the guardian finds the journal; empty: no guardian
  uint64_t bandwidth_bytes_per_second = 0;  // bulk only; 0: no limit
  Compression compression = Compression::kAuto;
  bool insecure = false;
  bool quit_source = false;
  int64_t connect_timeout_ms = 10000;
  // For how long a connection lost after the handover is made again; 0: no limit.
  int64_t recovery_timeout_us = 0;
  // Takes a migration up again whose command died after the handover; its journal is `journal`.
  std::optional<KeptMigration> resume;
};

struct ReceiveOptions {
  std::string listen_uri;  // tcp://HOST:PORT, port 0 for any
  std::string qmp_path;
  std::string hook_path;
  std::string journal_path;  // where the guardian finds the journal; empty: no guardian
  bool insecure = false;
  int64_t recovery_timeout_us = 0;      // as in MigrateOptions
  std::optional<KeptMigration> resume;  // as in MigrateOptions
  bool resume_committed = false;        // the journal has kCommitted
};

// One side of one migration. Run blocks on its own loops until the migration has ended.
class Session {
 public:
  virtual ~Session() = default;
  virtual SessionResult Run(SessionObserver* observer) = 0;
  // Asks it to end before the handover; after it, has no effect but a notice. Any thread.
  virtual void Cancel(const std::string& reason) = 0;
};

// Options that make no sense together are InvalidArgument, with the sentence for the user (plain
// TCP beyond loopback without insecure is one). `journal` outlives the session.
absl::StatusOr<std::unique_ptr<Session>> MakeMigrateSession(const MigrateOptions& options,
                                                            Journal* journal);
absl::StatusOr<std::unique_ptr<Session>> MakeReceiveSession(const ReceiveOptions& options,
                                                            Journal* journal);

}  // namespace faultline

#endif  // FAULTLINE_ASSEMBLY_SESSIONS_H_
