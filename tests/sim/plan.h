// Everything that one seed decides before its migration begins.
#ifndef FAULTLINE_TESTS_SIM_PLAN_H_
#define FAULTLINE_TESTS_SIM_PLAN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "engine/round_policy.h"
#include "engine/session_limits.h"
#include "fakes/fake_vmm.h"
#include "pages/memory_layout.h"
#include "protocol/messages.h"
#include "seams/journal.h"
#include "sim/trace.h"

namespace faultline::sim {

enum class FaultKind : uint8_t {
  kCut,        // every connection breaks; none can be made until the fault ends
  kCutRole,    // one connection breaks
  kStall,      // nothing arrives anywhere until the fault ends, then all of it
  kStallRole,  // the same towards one end of one connection
  kHalfOpen,  // nothing arrives any more at one end of one connection, until the kernel gives it up
  kCrash,     // one side's engine process dies
  kCancel,    // its operator cancels
  kNoMemory,  // the destination's host has no memory until the fault ends
  kBusy,      // one thread of one side gets no processor until the fault ends
  kVmDies,    // the destination's VM dies, with its memory
  kLateWord,  // an outcome that contradicts the handover reaches the VM's owner
  kChange,    // some of what one lane brings changes on its way, until the fault ends
};

// How the two sides' memories differ in shape.
enum class LayoutTwist : uint8_t {
  kNone,
  kOtherOrder,            // the destination's regions come in another order: that fits
  kDiffers,               // they do not fit
  kChangesAtFreeze,       // memory is plugged on the source while it prepares
  kChangesAtDestination,  // or on the destination
};

// When and what. `at_message` counts the control messages of both sides, heartbeats and reports
// aside, from 0; the fault comes `after_us` after that one was sent (0: before it is on its way),
// or, where there is none, after the migration began. A crash with a step needs no moment.
struct Fault {
  static constexpr int kAtNoMessage = -1;
  static constexpr int64_t kForever = -1;
  static constexpr int kBothEnds = 2;

  FaultKind kind{};
  int at_message = kAtNoMessage;
  int64_t after_us = 0;
  int64_t duration_us = 0;  // or kForever
  Side side = Side::kSource;
  uint64_t at_step = 0;  // of a crash: see Lifeline
  ConnectionRole role = ConnectionRole::kControl;
  int towards = 0;       // an end: 0 source, 1 destination; of a half-open one also kBothEnds
  int thread = 0;        // 0 control, 1 demand, 2 bulk
  uint64_t percent = 0;  // of a change: of the pieces
};

// One call of one side's VMM that takes its time, fails or never comes back.
struct VmmEvent {
  Side side = Side::kSource;
  const char* call = "";
  FakeVmmStep step;
};

struct JournalFailure {
  Side side = Side::kSource;
  JournalPhase phase{};
};

struct Plan {
  uint64_t seed = 0;

  // The VM and its guest.
  MemoryLayout layout;
  bool vm_running = true;
  bool guest_discards = true;
  int actors = 1;
  int64_t act_interval_us = 1;  // of each actor, at most
  int acts_before = 0;          // on the source, of each actor
  int acts_after = 0;           // on the destination
  uint64_t device_state_bytes = 0;
  int device_touches = 0;            // pages that the devices read while they load
  uint64_t zero_pages_percent = 14;  // of the pages that the guest ever wrote

  // What is sent before the switch, and when somebody has had enough of it (0: nobody).
  MigrationMode mode = MigrationMode::kPostCopy;
  PreCopyBudgets budgets;
  bool direct_io = false;
  int64_t switch_after_us = 0;

  // The hosts and what joins them.
  int64_t latency_us = 0;
  int64_t jitter_us = 0;  // of each piece, on each connection by itself
  uint64_t bandwidth_bytes_per_second = 0;
  uint64_t push_window_bytes = 0;
  std::string push_order;
  uint64_t around_bytes = 0;  // read with a touched page; 0: what the bandwidth suggests
  // Where they come to no checks, nothing changes on its way: nobody would find it out.
  IntegrityWish source_integrity = IntegrityWish::kDefault;
  IntegrityWish destination_integrity = IntegrityWish::kDefault;
  SessionLimits limits;

  // Threads that wait for a processor for a moment, one after the other.
  int holds = 0;
  int64_t hold_interval_us = 1;
  int64_t hold_us = 1;  // at most

  // How often each side's command is started again at most when it is killed and can be, how soon,
  // and at which of its steps each of these dies (0: by none; in the order of their starts).
  int restarts = 0;
  int64_t restart_within_us = 1;
  std::vector<uint64_t> death_steps;

  // What goes wrong, or just not as smoothly as it could.
  uint64_t answer_twice_percent = 0;
  uint64_t push_twice_percent = 0;
  std::vector<VmmEvent> vmm_events;
  std::vector<JournalFailure> journal_failures;
  bool records_not_durable = false;
  bool map_unreadable = false;  // every page is sent then, holes too
  LayoutTwist layout_twist = LayoutTwist::kNone;
  std::vector<Fault> faults;

  // Nothing in it but its faults may keep the migration from completing.
  bool harmless_but_for_faults() const;
};

Plan DrawPlan(uint64_t seed);
// In words, some lines.
std::string DescribePlan(const Plan& plan);

}  // namespace faultline::sim

#endif  // FAULTLINE_TESTS_SIM_PLAN_H_
