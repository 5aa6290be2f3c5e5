// Sessions from parts that others made: what options (sessions.h) and the C ABI come down to.
#ifndef FAULTLINE_ASSEMBLY_PARTS_H_
#define FAULTLINE_ASSEMBLY_PARTS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "assembly/sessions.h"
#include "base/status.h"
#include "protocol/messages.h"
#include "seams/compression.h"
#include "seams/dirty_tracker.h"
#include "seams/executor.h"
#include "seams/guest_memory.h"
#include "seams/journal.h"
#include "seams/vmm.h"

namespace faultline {

class FdPoller;

struct SourceParts {
  std::function<std::unique_ptr<SourceVmm>(Executor& control)> vmm;
  std::string uri;
  bool insecure = false;
  TlsChoice tls;
  RdmaChoice rdma;
  MigrationId id{};
  uint64_t bandwidth = 0;  // bytes a second, bulk only; 0: no limit
  Compression compression = Compression::kAuto;
  bool quit_source = false;
  int64_t connect_timeout_us = 10'000'000;
  int64_t poll_us = 0;              // how long the demand thread looks for more before it sleeps
  std::string push_order;           // a name (prefetch/push_orders.h); empty: the default
  int64_t recovery_timeout_us = 0;  // 0: no limit
  // Takes that migration up again: its id is `id`, and `vmm` describes the VM that it had.
  std::optional<KeptMigration> resume;
  IntegrityWish integrity = IntegrityWish::kDefault;
  MigrationMode mode = MigrationMode::kPostCopy;
  PreCopyBudgets budgets;
  std::unique_ptr<DirtyTrackerFactory> tracker;  // null where mode is kPostCopy
  Journal* journal = nullptr;
  // This process has no other work: it gives up what the session does not need.
  bool confine = false;
};

struct DestinationParts {
  std::function<std::unique_ptr<DestinationVmm>(Executor& control)> vmm;
  std::function<std::unique_ptr<GuestMemoryFactory>(Executor& demand, FdPoller& poller)> memory;
  std::string uri;
  bool insecure = false;
  TlsChoice tls;
  RdmaChoice rdma;
  int64_t poll_us = 0;                  // as above
  int64_t recovery_timeout_us = 0;      // 0: no limit
  std::optional<KeptMigration> resume;  // as in SourceParts
  bool resume_committed = false;        // the journal has kCommitted
  bool resume_whole = false;            // and kWhole
  bool resume_released = false;         // and kReleased
  bool read_around = true;              // a fault brings its neighbors where the link is fast
  bool huge_pages = false;              // makes the memory huge again after the last page
  IntegrityWish integrity = IntegrityWish::kDefault;
  Journal* journal = nullptr;
  bool confine = false;  // as in SourceParts
};

// A URI that cannot be used is InvalidArgument, with the sentence for the user (one beyond loopback
// with neither secrets nor `insecure`, for example).
absl::StatusOr<std::unique_ptr<Session>> MakeSourceSession(SourceParts parts);
absl::StatusOr<std::unique_ptr<Session>> MakeDestinationSession(DestinationParts parts);

}  // namespace faultline

#endif  // FAULTLINE_ASSEMBLY_PARTS_H_
