#include "sim/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "prefetch/push_orders.h"
#include "protocol/handshake.h"
#include "sim/random.h"

namespace faultline::sim {
namespace {

// Control messages of a migration that goes well, and some more.
constexpr int kMessagesExpected = 18;

template <typename T, size_t kCount>
const T& Pick(Random& random, const T (&choices)[kCount]) {
  return choices[random.Below(kCount)];
}

void DrawVm(Random& random, Plan* plan) {
  const int regions = random.Chance(70) ? 1 : static_cast<int>(random.Between(2, 4));
  for (int i = 0; i < regions; ++i) {
    // Most of it small pages, as they give the most chances for things to cross.
    uint64_t page_bytes = 4096;
    int64_t pages_max = random.Chance(10) ? 256 : 48;
    if (random.Chance(12)) {
      page_bytes = 65536;
      pages_max = 8;
    } else if (random.Chance(2)) {
      page_bytes = 2 << 20;
      pages_max = 2;
    }
    const auto pages = static_cast<uint64_t>(random.LogBetween(1, pages_max));
    plan->layout.push_back({fmt::format("ram{}", i), pages * page_bytes, page_bytes});
  }
  plan->vm_running = random.Chance(92);
  plan->guest_discards = random.Chance(70);
  plan->actors = static_cast<int>(random.Between(1, 4));
  plan->act_interval_us = random.LogBetween(1, 300);
  plan->acts_before = static_cast<int>(random.Below(60));
  plan->acts_after = static_cast<int>(random.Below(120));
  plan->device_state_bytes =
      static_cast<uint64_t>(random.LogBetween(1, random.Chance(3) ? 700'000 : 8'000));
  plan->map_unreadable = random.Chance(3);
  if (random.Chance(15)) plan->layout_twist = LayoutTwist::kOtherOrder;
  if (random.Chance(2)) {
    plan->layout_twist = static_cast<LayoutTwist>(random.Between(2, 4));
  }
  if (random.Chance(20)) plan->zero_pages_percent = 20 + random.Below(70);
  plan->device_touches = random.Chance(40) ? static_cast<int>(random.Between(1, 6)) : 0;
}

void DrawLink(Random& random, Plan* plan) {
  plan->latency_us = random.LogBetween(1, 3'000);
  plan->jitter_us = random.Chance(50) ? random.LogBetween(1, 2'000) : 0;
  // The devices' reads must be through before the handover is given up.
  uint64_t page_bytes_max = 0;
  for (const RegionLayout& region : plan->layout) {
    page_bytes_max = std::max(page_bytes_max, region.page_size_bytes);
  }
  plan->bandwidth_bytes_per_second = static_cast<uint64_t>(
      random.LogBetween(static_cast<int64_t>(50 * page_bytes_max), 1'000'000'000));
  plan->push_window_bytes = 4096 * static_cast<uint64_t>(random.LogBetween(1, 128));
  const std::vector<std::string> orders = PushOrderNames();
  plan->push_order = orders[random.Below(orders.size())];
  plan->around_bytes = random.Chance(50) ? 0 : uint64_t{4096} << random.Below(4);
  if (random.Chance(50)) {
    plan->holds = static_cast<int>(random.LogBetween(8, 200));
    plan->hold_interval_us = random.LogBetween(20, 1'000);
    plan->hold_us = random.LogBetween(1, 3'000);
  }
  plan->limits.silence_post_copy_us = random.Between(3'000'000, 10'000'000);
  if (random.Chance(30)) plan->answer_twice_percent = random.Below(60);
  if (random.Chance(30)) plan->push_twice_percent = random.Below(60);
}

void DrawVmm(Random& random, Plan* plan) {
  static constexpr const char* kSourceCalls[] = {"Prepare", "Freeze", "SaveDevices", "Rollback",
                                                 "Retire"};
  static constexpr const char* kDestinationCalls[] = {
      "Prepare", "DescribeAgain", "Load", "TakeOver", "Pause", "Continue", "Discard", "Finish"};
  for (int i = random.Chance(70) ? 3 : 0; i > 0; --i) {
    const bool source = random.Chance(40);
    VmmEvent event{.side = source ? Side::kSource : Side::kDestination,
                   .call = source ? Pick(random, kSourceCalls) : Pick(random, kDestinationCalls),
                   .step = {}};
    event.step.delay_us = random.LogBetween(1, 20'000);
    const bool take_over = std::string_view(event.call) == "TakeOver";
    if (take_over && random.Chance(20)) event.step.delay_us = random.LogBetween(1, 15'000'000);
    plan->vmm_events.push_back(event);
  }
  if (!random.Chance(8)) return;
  static constexpr const char* kFailingAtSource[] = {"Prepare", "Freeze", "SaveDevices", "Rollback",
                                                     "Retire"};
  static constexpr const char* kFailingAtDestination[] = {
      "Prepare", "DescribeAgain", "Load", "TakeOver", "Pause", "Continue", "Discard", "Finish"};
  const bool source = random.Chance(40);
  VmmEvent event{
      .side = source ? Side::kSource : Side::kDestination,
      .call = source ? Pick(random, kFailingAtSource) : Pick(random, kFailingAtDestination),
      .step = {}};
  event.step.delay_us = random.LogBetween(1, 20'000);
  if (std::string_view(event.call) == "Load" && random.Chance(30)) {
    event.step.hangs = true;
  } else {
    event.step.status = absl::InternalError(fmt::format("the VMM fails in {}", event.call));
  }
  plan->vmm_events.push_back(event);
}

void DrawJournal(Random& random, Plan* plan) {
  plan->records_not_durable = random.Chance(4);
  if (!random.Chance(4)) return;
  static constexpr JournalPhase kAtSource[] = {JournalPhase::kPreparing, JournalPhase::kFrozen,
                                               JournalPhase::kCommitted, JournalPhase::kCompleted,
                                               JournalPhase::kRolledBack};
  static constexpr JournalPhase kAtDestination[] = {
      JournalPhase::kPreparing, JournalPhase::kLoaded, JournalPhase::kCommitted,
      JournalPhase::kCompleted, JournalPhase::kRolledBack};
  const bool source = random.Chance(50);
  plan->journal_failures.push_back(
      {source ? Side::kSource : Side::kDestination,
       source ? Pick(random, kAtSource) : Pick(random, kAtDestination)});
}

void DrawRecovery(Random& random, Plan* plan) {
  if (random.Chance(20)) {
    plan->limits.recovery_timeout_us = random.LogBetween(100'000, 60'000'000);
  }
  if (random.Chance(30)) return;
  plan->restarts = static_cast<int>(random.LogBetween(1, 4));
  plan->restart_within_us = random.LogBetween(1'000, 10'000'000);
  for (int i = 0; i < 2 * plan->restarts; ++i) {
    const bool dies = random.Chance(40);
    plan->death_steps.push_back(dies ? static_cast<uint64_t>(random.LogBetween(1, 200)) : 0);
  }
}

// A destination that dies in the middle of a long post-copy, with a guest that waits: rare by
// itself.
void DrawLongPostCopy(Random& random, Plan* plan) {
  uint64_t page_bytes_max = 0;
  for (const RegionLayout& region : plan->layout) {
    page_bytes_max = std::max(page_bytes_max, region.page_size_bytes);
  }
  plan->bandwidth_bytes_per_second = page_bytes_max * (20 + random.Below(80));
  // A message of it that takes longer than the silence allowed ends the handover, and rightly.
  plan->device_state_bytes = std::min<uint64_t>(plan->device_state_bytes, 8'000);
  plan->zero_pages_percent = 30 + random.Below(60);
  plan->actors = 4;
  plan->acts_after = 60 + static_cast<int>(random.Below(120));
  plan->limits.recovery_timeout_us = 0;
  plan->restarts = static_cast<int>(random.Between(1, 3));
  plan->restart_within_us = random.LogBetween(1'000, 300'000);
  plan->death_steps.assign(static_cast<size_t>(2 * plan->restarts), 0);
  Fault crash{.kind = FaultKind::kCrash};
  crash.side = Side::kDestination;
  crash.at_message = static_cast<int>(random.Between(10, 13));
  crash.after_us = random.LogBetween(1, 100'000);
  plan->faults.push_back(crash);
}

// The guest has more to do at the source then: it writes between all that pre-copy does.
void DrawRounds(Random& random, Plan* plan) {
  if (random.Chance(60)) return;
  plan->mode = random.Chance(50) ? MigrationMode::kHybrid : MigrationMode::kPreCopy;
  plan->budgets.rounds_max = static_cast<uint32_t>(random.LogBetween(1, 8));
  plan->budgets.time_max_us = random.LogBetween(1'000, 10'000'000);
  plan->budgets.downtime_max_us = random.LogBetween(10, 100'000);
  plan->direct_io = random.Chance(25);
  if (random.Chance(15)) plan->switch_after_us = random.LogBetween(1, 1'000'000);
  plan->acts_before = static_cast<int>(random.LogBetween(1, 3'000));
  if (random.Chance(30)) plan->zero_pages_percent = 30 + random.Below(50);
  plan->budgets.throttle = plan->mode == MigrationMode::kPreCopy && random.Chance(50);
}

ConnectionRole DrawRole(Random& random) {
  static constexpr ConnectionRole kRoles[] = {ConnectionRole::kControl, ConnectionRole::kDemand,
                                              ConnectionRole::kBulk, ConnectionRole::kOutcome,
                                              ConnectionRole::kResume};
  return kRoles[random.Below(random.Chance(85) ? 3 : 5)];
}

Fault DrawFault(Random& random) {
  static constexpr FaultKind kKinds[] = {
      FaultKind::kCut,       FaultKind::kCut,       FaultKind::kCutRole,  FaultKind::kStall,
      FaultKind::kStallRole, FaultKind::kStallRole, FaultKind::kHalfOpen, FaultKind::kCrash,
      FaultKind::kCrash,     FaultKind::kCrash,     FaultKind::kCancel,   FaultKind::kNoMemory,
      FaultKind::kBusy,      FaultKind::kBusy,      FaultKind::kVmDies,   FaultKind::kLateWord,
      FaultKind::kNoMemory,  FaultKind::kChange,    FaultKind::kChange,
  };
  Fault fault{.kind = Pick(random, kKinds)};
  fault.side = random.Chance(50) ? Side::kSource : Side::kDestination;
  fault.role = DrawRole(random);
  fault.towards = static_cast<int>(random.Below(2));
  if (random.Chance(60)) {
    fault.at_message = static_cast<int>(random.Below(kMessagesExpected));
    fault.after_us = random.Chance(40) ? 0 : random.LogBetween(1, 20'000);
  } else {
    fault.after_us = random.LogBetween(1, 400'000);
  }
  fault.duration_us = random.LogBetween(10, 5'000'000);
  if (fault.kind == FaultKind::kCrash && random.Chance(60)) {
    fault.at_step = static_cast<uint64_t>(random.LogBetween(1, 400));
  }
  if (fault.kind == FaultKind::kBusy) {
    fault.thread = static_cast<int>(random.Below(3));
    fault.duration_us = random.LogBetween(10, 30'000);
  }
  if (fault.kind == FaultKind::kHalfOpen) {
    fault.duration_us = random.Between(5'000'000, 20'000'000);
    if (random.Chance(40)) fault.towards = Fault::kBothEnds;
  }
  if (fault.kind == FaultKind::kChange) {
    fault.role = random.Chance(50) ? ConnectionRole::kDemand : ConnectionRole::kBulk;
    fault.percent = static_cast<uint64_t>(random.LogBetween(1, 100));
  }
  const bool may_last = fault.kind == FaultKind::kCut || fault.kind == FaultKind::kStall;
  if (may_last && random.Chance(12)) fault.duration_us = Fault::kForever;
  return fault;
}

void DrawIntegrity(Random& random, Plan* plan) {
  static constexpr IntegrityWish kWishes[] = {IntegrityWish::kOff, IntegrityWish::kDefault,
                                              IntegrityWish::kOn};
  if (random.Chance(40)) {
    plan->source_integrity = Pick(random, kWishes);
    plan->destination_integrity = Pick(random, kWishes);
  }
  if (AgreeOnIntegrity(plan->source_integrity, plan->destination_integrity).value()) return;
  std::erase_if(plan->faults, [](const Fault& fault) { return fault.kind == FaultKind::kChange; });
}

std::string DescribeFault(const Fault& fault) {
  static constexpr const char* kKinds[] = {"cut",         "cut role", "stall",     "stall role",
                                           "half-open",   "crash",    "cancel",    "no memory",
                                           "busy thread", "VM dies",  "late word", "change on"};
  static constexpr const char* kTowards[] = {" towards the source", " towards the destination",
                                             " both ways"};
  static constexpr const char* kThreads[] = {"control", "demand", "bulk"};
  static constexpr const char* kRoles[] = {"", "control", "demand", "bulk", "outcome", "resume"};
  const bool one_role = fault.kind == FaultKind::kCutRole || fault.kind == FaultKind::kStallRole ||
                        fault.kind == FaultKind::kHalfOpen || fault.kind == FaultKind::kChange;
  const bool busy = fault.kind == FaultKind::kBusy;
  const bool one_side = fault.kind == FaultKind::kCrash || fault.kind == FaultKind::kCancel || busy;
  std::string text = kKinds[static_cast<size_t>(fault.kind)];
  if (one_role) text += fmt::format(" {}", kRoles[static_cast<size_t>(fault.role)]);
  if (one_role && fault.kind != FaultKind::kCutRole && fault.kind != FaultKind::kChange) {
    text += kTowards[fault.towards];
  }
  if (busy) text += fmt::format(" {}", kThreads[fault.thread]);
  if (one_side) text += fault.side == Side::kSource ? " of the source" : " of the destination";
  if (fault.at_step != 0) return text + fmt::format(" at step {}", fault.at_step);
  text += fmt::format(" {} us after {}", fault.after_us,
                      fault.at_message == Fault::kAtNoMessage
                          ? std::string("the beginning")
                          : fmt::format("message {}", fault.at_message));
  const bool lasts =
      busy || (!one_side && fault.kind != FaultKind::kCutRole && fault.kind != FaultKind::kVmDies &&
               fault.kind != FaultKind::kLateWord);
  if (!lasts) return text;
  return text + (fault.duration_us == Fault::kForever ? std::string(", for ever")
                                                      : fmt::format(", {} us", fault.duration_us));
}

}  // namespace

bool Plan::harmless_but_for_faults() const {
  const bool vmm_works = std::all_of(vmm_events.begin(), vmm_events.end(), [](const auto& event) {
    return event.step.status.ok() && !event.step.hangs;
  });
  const bool layouts_fit =
      layout_twist == LayoutTwist::kNone || layout_twist == LayoutTwist::kOtherOrder;
  // Before the switch it is the reason to leave the VM where it is.
  const bool map_needed = map_unreadable && mode != MigrationMode::kPostCopy;
  return vmm_works && journal_failures.empty() && layouts_fit && !map_needed;
}

Plan DrawPlan(uint64_t seed) {
  Random random(seed);
  Plan plan;
  plan.seed = seed;
  DrawVm(random, &plan);
  DrawLink(random, &plan);
  DrawVmm(random, &plan);
  DrawJournal(random, &plan);
  Random recovery(seed ^ 0x7265636f766572u);
  DrawRecovery(recovery, &plan);
  const int64_t faults = random.Chance(20) ? 0 : random.LogBetween(1, 3);
  for (int64_t i = 0; i < faults; ++i) plan.faults.push_back(DrawFault(random));
  const bool long_post_copy = recovery.Chance(15);
  if (long_post_copy) DrawLongPostCopy(recovery, &plan);
  Random rounds(seed ^ 0x726f756e6473u);
  if (!long_post_copy) DrawRounds(rounds, &plan);
  Random integrity(seed ^ 0x696e746567u);
  DrawIntegrity(integrity, &plan);
  return plan;
}

std::string DescribePlan(const Plan& plan) {
  std::string text = fmt::format("seed {}\n", plan.seed);
  for (const RegionLayout& region : plan.layout) {
    text += fmt::format("  {}: {} pages of {} bytes\n", region.name, region.page_count(),
                        region.page_size_bytes);
  }
  text += fmt::format(
      "  guest: {}, {} actors, each {} acts before and {} after, {} us apart{}, {}% pages of "
      "zeros\n"
      "  devices: {} bytes, {} pages read while they load\n",
      plan.vm_running ? "running" : "paused", plan.actors, plan.acts_before, plan.acts_after,
      plan.act_interval_us, plan.guest_discards ? ", discards" : "", plan.zero_pages_percent,
      plan.device_state_bytes, plan.device_touches);
  text += fmt::format(
      "  link: {} us and up to {} us more, {} bytes/s, window {} bytes, order {}, around {}, "
      "answers twice {}%, runs twice {}%, silence {} us\n"
      "  processors: {} waits of up to {} us, {} us apart\n",
      plan.latency_us, plan.jitter_us, plan.bandwidth_bytes_per_second, plan.push_window_bytes,
      plan.push_order, plan.around_bytes, plan.answer_twice_percent, plan.push_twice_percent,
      plan.limits.silence_post_copy_us, plan.holds, plan.hold_us, plan.hold_interval_us);
  if (plan.mode != MigrationMode::kPostCopy) {
    text += fmt::format(
        "  {}: {} rounds, {} us, downtime {} us{}{}{}\n", ModeName(plan.mode),
        plan.budgets.rounds_max, plan.budgets.time_max_us, plan.budgets.downtime_max_us,
        plan.budgets.throttle ? ", throttle" : "", plan.direct_io ? ", direct I/O" : "",
        plan.switch_after_us == 0 ? "" : fmt::format(", ended after {} us", plan.switch_after_us));
  }
  text += fmt::format("  recovery: limit {} us; {} restarts of each side within {} us, die at {}\n",
                      plan.limits.recovery_timeout_us, plan.restarts, plan.restart_within_us,
                      fmt::join(plan.death_steps, " "));
  static constexpr const char* kTwists[] = {
      "", "  regions in another order there\n", "  regions that do not fit there\n",
      "  memory plugged before the freeze\n", "  memory plugged at the destination\n"};
  static constexpr const char* kWishes[] = {"cannot", "off", "default", "on"};
  text += fmt::format("  integrity: {} on the source, {} on the destination\n",
                      kWishes[static_cast<size_t>(plan.source_integrity)],
                      kWishes[static_cast<size_t>(plan.destination_integrity)]);
  text += kTwists[static_cast<size_t>(plan.layout_twist)];
  if (plan.map_unreadable) text += "  the allocation map cannot be read\n";
  if (plan.records_not_durable) text += "  the journals cannot be made durable\n";
  for (const VmmEvent& event : plan.vmm_events) {
    text += fmt::format("  VMM: {} {} after {} us{}\n",
                        event.side == Side::kSource ? "source" : "destination", event.call,
                        event.step.delay_us,
                        event.step.hangs         ? ", hangs"
                        : event.step.status.ok() ? ""
                                                 : ", fails");
  }
  for (const JournalFailure& failure : plan.journal_failures) {
    text += fmt::format("  journal: {} cannot write record {}\n",
                        failure.side == Side::kSource ? "source" : "destination",
                        static_cast<int>(failure.phase));
  }
  for (const Fault& fault : plan.faults) text += "  fault: " + DescribeFault(fault) + "\n";
  return text;
}

}  // namespace faultline::sim
