#include "sim/faults.h"

#include <algorithm>
#include <utility>

#include "sim/lifeline.h"

namespace faultline::sim {
namespace {

// A source tells a lost destination how it ended for 10 s at least; that includes some room.
constexpr int64_t kToldWithinUs = 6'000'000;
// Below the silence after which a peer is taken for dead, by more than it takes to hear of it.
constexpr int64_t kShorterThanSilenceUs = 600'000;

}  // namespace

Faults::Faults(const Plan& plan, FaultTarget* target, FakeNetwork* network, ManualExecutor* hosts,
               Trace* trace)
    : plan_(plan), target_(target), network_(network), hosts_(hosts), trace_(trace) {}

void Faults::After(int64_t delay_us, Task task) {
  ManualClock* clock = hosts_->clock();
  timers_.push_back(clock->Schedule(hosts_, clock->now_ns() + delay_us * 1000, std::move(task)));
}

void Faults::Start() {
  for (const Fault& fault : plan_.faults) {
    if (fault.at_step != 0 || fault.at_message != Fault::kAtNoMessage) continue;
    After(fault.after_us, [this, &fault] { Happen(fault); });
  }
}

uint64_t Faults::DeathStep(Side side) const {
  uint64_t step = 0;
  for (const Fault& fault : plan_.faults) {
    if (fault.kind != FaultKind::kCrash || fault.side != side || fault.at_step == 0) continue;
    step = step == 0 ? fault.at_step : std::min(step, fault.at_step);
  }
  return step;
}

FakeFate Faults::OnMessage(Side side) {
  const int number = messages_++;
  FakeFate fate = FakeFate::kDeliver;
  for (const Fault& fault : plan_.faults) {
    if (fault.at_step != 0 || fault.at_message != number) continue;
    if (fault.after_us != 0) {
      After(fault.after_us, [this, &fault] { Happen(fault); });
    } else if (fault.kind == FaultKind::kCrash && fault.side == side) {
      throw ProcessDied{side};
    } else if (fault.kind == FaultKind::kCrash || fault.kind == FaultKind::kCutRole ||
               fault.kind == FaultKind::kVmDies || fault.kind == FaultKind::kLateWord) {
      // Not under the feet of whoever is about to send.
      After(0, [this, &fault] { Happen(fault); });
    } else if (fault.kind == FaultKind::kCut) {
      Weigh(fault);
      BeginGlobal(fault);
      fate = FakeFate::kCut;
    } else {
      Happen(fault);
    }
  }
  return fate;
}

void Faults::Happen(const Fault& fault) {
  const int64_t now_ns = hosts_->NowNanos();
  const int64_t until_ns = now_ns + fault.duration_us * 1000;
  trace_->Note(Side::kWorld, "fault", static_cast<uint64_t>(fault.kind),
               static_cast<uint64_t>(fault.role), static_cast<uint64_t>(fault.side));
  last_end_ns_ = std::max({last_end_ns_, now_ns, until_ns});
  Weigh(fault);
  switch (fault.kind) {
    case FaultKind::kCut:
      BeginGlobal(fault);
      return network_->Cut();
    case FaultKind::kCutRole:
      return network_->Cut(fault.role);
    case FaultKind::kStall:
      BeginGlobal(fault);
      return network_->Stall();
    case FaultKind::kStallRole:
      return network_->StallUntil(fault.role, fault.towards, until_ns);
    case FaultKind::kHalfOpen:
      for (int end : {0, 1}) {
        const bool silent = fault.towards == end || fault.towards == Fault::kBothEnds;
        if (silent) network_->StallUntil(fault.role, end, until_ns);
      }
      // Keepalive gives it up in the end.
      return After(fault.duration_us, [this, role = fault.role] { network_->Cut(role); });
    case FaultKind::kCrash:
      if (target_->IsAlive(fault.side)) target_->Kill(fault.side);
      return;
    case FaultKind::kCancel:
      if (!target_->IsAlive(fault.side)) return;
      cancelled_[static_cast<size_t>(fault.side)] = true;
      return target_->Cancel(fault.side);
    case FaultKind::kNoMemory:
      return target_->StarveDestination(until_ns);
    case FaultKind::kBusy:
      return target_->HoldThread(fault.side, fault.thread, until_ns);
    case FaultKind::kVmDies:
      return target_->KillDestinationVm();
    case FaultKind::kLateWord:
      return target_->SendLateWord();
    case FaultKind::kChange:
      return target_->ChangeUntil(fault.role, fault.percent, until_ns);
  }
}

// While the VM stands still on its way each side is impatient; from the handover on, patient.
void Faults::Weigh(const Fault& fault) {
  const bool one_role = fault.kind == FaultKind::kStallRole || fault.kind == FaultKind::kHalfOpen;
  if (one_role && fault.role == ConnectionRole::kOutcome) cut_off_us_ += fault.duration_us;
  switch (fault.kind) {
    case FaultKind::kBusy:
    case FaultKind::kNoMemory:
    case FaultKind::kLateWord:
      return;
    case FaultKind::kStall:
    case FaultKind::kStallRole:
      if (fault.duration_us == Fault::kForever) break;
      stalled_us_ += fault.duration_us;
      if (!target_->IsHandedOver()) stalled_before_handover_ = true;
      return;
    default:
      break;
  }
  harmful_ = true;
}

bool Faults::cut_off_for_long(int64_t down_us) const {
  return cut_off_for_ever_ || cut_off_us_ + down_us > kToldWithinUs;
}

bool Faults::harmless() const {
  const SessionLimits& limits = plan_.limits;
  const int64_t silence_us =
      stalled_before_handover_ ? limits.silence_frozen_us : limits.silence_post_copy_us;
  return !harmful_ && stalled_us_ < silence_us - kShorterThanSilenceUs;
}

void Faults::BeginGlobal(const Fault& fault) {
  ++global_faults_;
  if (fault.duration_us == Fault::kForever) {
    cut_off_for_ever_ = true;
    return;
  }
  cut_off_us_ += fault.duration_us;
  last_end_ns_ = std::max(last_end_ns_, hosts_->NowNanos() + fault.duration_us * 1000);
  After(fault.duration_us, [this] { EndGlobal(); });
}

// One that still lasts keeps everything as it is.
void Faults::EndGlobal() {
  trace_->Note(Side::kWorld, "fault ends");
  if (--global_faults_ == 0) network_->Mend();
}

}  // namespace faultline::sim
