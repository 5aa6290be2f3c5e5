// What a session tells the outside while it runs and when it ends.
#ifndef FAULTLINE_ENGINE_SESSION_REPORT_H_
#define FAULTLINE_ENGINE_SESSION_REPORT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/histogram.h"
#include "base/status.h"
#include "engine/round_policy.h"
#include "seams/transport.h"

namespace faultline {

enum class Role : uint8_t { kSource = 1, kDestination = 2 };
enum class VmOwner : uint8_t {
  kSource = 1,
  kDestination = 2,
  kUndecided = 3,  // destination only: loaded, and the source's decision did not arrive
};

// Both sides go through the first six in this order; a failure jumps to kFailed. kReconnecting
// comes between the handover and the end, and the phase that it interrupted follows it.
enum class Phase : uint8_t {
  kConnecting = 1,   // source: connecting; destination: listening
  kPreparing = 2,    // VM runs on the source
  kFreezing = 3,     // the VM is being stopped
  kHandingOver = 4,  // device state travels and is loaded; the VM stands still
  kPostCopy = 5,     // VM runs on the destination
  kCompleted = 6,
  kFailed = 7,
  kReconnecting = 8,  // the connection was lost: the VM runs until it needs a missing page
  kPreCopy = 9,       // source: memory is sent while the VM runs there; after kPreparing
};

const char* PhaseName(Phase phase);    // "post-copy"
const char* OwnerName(VmOwner owner);  // "source" | "destination" | "undecided"

// Counters at one moment. Figures that a side does not know yet are 0.
struct ProgressSnapshot {
  Phase phase = Phase::kConnecting;
  uint64_t pages_total = 0;    // of all regions
  uint64_t pages_missing = 0;  // not on the destination yet
  uint64_t pages_absent = 0;   // never allocated on the source
  uint64_t pages_demand = 0;   // installed because somebody waited
  uint64_t pages_pushed = 0;   // installed because they were pushed
  // Sent (source) or put in (destination) before the VM stopped, each time.
  uint64_t pages_precopied = 0;
  uint64_t rounds = 0;            // of pre-copy, that were begun (source)
  uint64_t throttle_percent = 0;  // of the time the VM is made to stand still (source)
  uint64_t pages_discarded = 0;   // given up by the guest meanwhile
  uint64_t faults = 0;            // events read (destination)
  uint64_t mismatches = 0;        // runs and answers that were not what the source had read
  uint64_t reconnects = 0;        // connections that were lost after the handover and made again
  uint64_t bytes_total = 0;       // of all regions
  uint64_t bytes_wire = 0;
  uint64_t bytes_packed_in = 0;   // source: memory that was packed before it was pushed,
  uint64_t bytes_packed_out = 0;  // and what it became
  uint64_t elapsed_us = 0;        // since the session began
  uint64_t post_copy_us = 0;      // since the handover, 0 before
};

// Where the time of faults that were answered over the demand lane went; see FaultStages.
struct FaultStageSummary {
  HistogramSummary read_to_sent_ns;
  HistogramSummary sent_to_answered_ns;
  HistogramSummary answered_to_installed_ns;
};

// What became huge again after the last page (destination, where it was asked for).
struct HugePagesResult {
  uint64_t bytes = 0;
  uint64_t elapsed_us = 0;
  bool cut_short = false;  // by who cancelled
};

// One round of pre-copy. Pages count each time they are sent.
struct RoundReport {
  uint64_t pages = 0;
  uint64_t bytes = 0;       // of memory
  uint64_t elapsed_us = 0;  // until the destination had it
  uint64_t pages_left = 0;  // written meanwhile, or put off
};

// What the source sent before the VM stopped, and what that cost.
struct PreCopyResult {
  std::vector<RoundReport> rounds;
  std::optional<SwitchReason> switch_reason;  // none: it did not get so far
  std::string tracker;                        // by what writes were tracked: "uffd-wp"
  uint64_t pages_sent = 0;
  uint64_t bytes_sent = 0;              // of memory
  uint64_t elapsed_us = 0;              // from the first round to the decision
  uint64_t dirty_bytes_per_second = 0;  // between the last two scans
  // The tracker's scans, and the VM's pauses around them where it needed some.
  uint64_t scans = 0;
  uint64_t scan_us = 0;
  uint64_t scan_us_max = 0;
  uint64_t pauses = 0;
  uint64_t pause_us = 0;
  uint64_t pause_us_max = 0;
  // Where the VM was slowed: of the time it stood still in the end, and how long in all.
  uint64_t throttle_percent = 0;
  uint64_t throttled_us = 0;
  // Sent, and missing again at the destination since they were old; of these the ones that it was
  // told of while the VM stood still, and how long that took, the last scan included.
  uint64_t pages_old = 0;
  uint64_t pages_old_in_downtime = 0;
  uint64_t settle_us = 0;
};

// How a session ended.
struct SessionResult {
  absl::Status status;  // ok: completed
  VmOwner owner = VmOwner::kSource;
  std::string migration_id;  // 32 hexadecimal digits; empty if none was agreed
  std::string transport;     // "tcp"
  bool integrity = false;    // pages were checked end to end
  ProgressSnapshot last;
  uint64_t downtime_us = 0;
  uint64_t total_us = 0;              // from the handover to the last page
  HistogramSummary fault_latency_us;  // destination: from the event read to the page installed
  FaultStageSummary fault_stages;     // destination
  std::vector<RailFigures> rails;     // destination; none where pages are not read
  std::optional<HugePagesResult> huge_pages;
  // Source: as it was asked for. Destination: kHybrid where memory came before the switch.
  MigrationMode mode = MigrationMode::kPostCopy;
  std::optional<PreCopyResult> pre_copy;  // source, where there was any
};

// Calls come on the session's control thread.
class SessionObserver {
 public:
  virtual ~SessionObserver() = default;
  virtual void OnListening(const std::string& address) = 0;  // destination
  virtual void OnPhase(Phase phase, const std::string& migration_id) = 0;
  virtual void OnProgress(const ProgressSnapshot& snapshot) = 0;  // a few times a second
  virtual void OnNotice(const std::string& text) = 0;             // for people: a warning, an event
};

}  // namespace faultline

#endif  // FAULTLINE_ENGINE_SESSION_REPORT_H_
