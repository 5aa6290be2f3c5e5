// Whole migrations from options: the only place that names implementations.
#ifndef FAULTLINE_ASSEMBLY_SESSIONS_H_
#define FAULTLINE_ASSEMBLY_SESSIONS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "engine/round_policy.h"
#include "engine/session_report.h"
#include "protocol/messages.h"
#include "seams/compression.h"
#include "seams/journal.h"

namespace faultline {

// How connections are secured; all empty: with the host's certificates beyond loopback, else not.
struct TlsChoice {
  std::string directory;  // certificates in QEMU's layout
  std::string psk_path;   // or a file of pre-shared keys
  std::string hostname;   // source: whom the destination's certificate names; empty: the URI's host

  bool given() const { return !directory.empty() || !psk_path.empty() || !hostname.empty(); }
  friend bool operator==(const TlsChoice&, const TlsChoice&) = default;
};

// What of rdma:// is not left to the system.
struct RdmaChoice {
  std::string control;  // tcp://HOST:PORT of everything but pages; empty: RDMA's address
  std::string tuning;   // "device=mlx5_0,mtu=2048" (transport/rdma/rdma_tuning.h)

  friend bool operator==(const RdmaChoice&, const RdmaChoice&) = default;
};

struct MigrateOptions {
  std::string to_uri;        // tcp://HOST:PORT, rdma://HOST:PORT[,rdma://ADDRESS[:PORT]...]
  std::string qmp_path;      // the source QEMU's monitor socket
  std::string migration_id;  // 32 hexadecimal digits
  std::string journal_path;  // where the guardian finds the journal; empty: no guardian
  uint64_t bandwidth_bytes_per_second = 0;  // bulk only; 0: no limit
  Compression compression = Compression::kAuto;
  std::string push_order;  // a name (prefetch/push_orders.h); empty: the default
  bool insecure = false;   // plain TCP beyond loopback
  TlsChoice tls;
  RdmaChoice rdma;
  bool quit_source = false;
  int64_t connect_timeout_ms = 10000;
  int64_t poll_us = 0;  // how long the demand thread looks for more before it sleeps
  // For how long a connection lost after the handover is made again; 0: no limit.
  int64_t recovery_timeout_us = 0;
  // Takes a migration up again whose command died after the handover; its journal is `journal`.
  std::optional<KeptMigration> resume;
  // Run gives up, for the whole process and for good, the rights that the session does not need:
  // with rdma:// none, which a notice says.
  bool confine = false;
  IntegrityWish integrity = IntegrityWish::kDefault;  // whether pages are checked end to end
  MigrationMode mode = MigrationMode::kPostCopy;
  PreCopyBudgets budgets;
  std::string hook_path;  // the source QEMU's hook; for the modes that send before the switch
};

struct ReceiveOptions {
  std::string listen_uri;  // tcp://HOST:PORT, rdma://HOST:PORT[,...], port 0 for any
  std::string qmp_path;
  std::string hook_path;
  std::string journal_path;  // where the guardian finds the journal; empty: no guardian
  bool insecure = false;     // plain TCP beyond loopback
  TlsChoice tls;
  RdmaChoice rdma;
  int64_t poll_us = 0;                  // as in MigrateOptions
  int64_t recovery_timeout_us = 0;      // as in MigrateOptions
  std::optional<KeptMigration> resume;  // as in MigrateOptions
  bool resume_committed = false;        // the journal has kCommitted
  bool resume_whole = false;            // and kWhole
  bool resume_released = false;         // and kReleased
  bool read_around = true;              // a fault brings its neighbors where the link is fast
  bool huge_pages = false;              // makes the memory huge again after the last page
  bool confine = false;                 // as in MigrateOptions
  IntegrityWish integrity = IntegrityWish::kDefault;  // as in MigrateOptions
};

// One side of one migration. Run blocks on its own loops until the migration has ended.
class Session {
 public:
  virtual ~Session() = default;
  virtual SessionResult Run(SessionObserver* observer) = 0;
  // Asks it to end before the handover; after it, has no effect but a notice. What follows the last
  // page (ReceiveOptions::huge_pages) is cut short. Any thread.
  virtual void Cancel(const std::string& reason) = 0;
  // Asks a source that sends memory before the switch to switch soon. Any thread.
  virtual void SwitchNow() {}
};

// Options that make no sense together are InvalidArgument, with the sentence for the user (beyond
// loopback neither secrets nor insecure is one). `journal` outlives the session.
absl::StatusOr<std::unique_ptr<Session>> MakeMigrateSession(const MigrateOptions& options,
                                                            Journal* journal);
absl::StatusOr<std::unique_ptr<Session>> MakeReceiveSession(const ReceiveOptions& options,
                                                            Journal* journal);

}  // namespace faultline

#endif  // FAULTLINE_ASSEMBLY_SESSIONS_H_
