#include "sim/faults.h"

#include <algorithm>
#include <utility>

#include "sim/lifeline.h"

namespace faultline::sim {
namespace {

// A source tells a lost destination how it ended for 10 s at least; that includes some room.
constexpr int64_t kToldWithinUs = 6'000'000;

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
               fault.kind == FaultKind::kVmDies) {
      // Not under the feet of whoever is about to send.
      After(0, [this, &fault] { Happen(fault); });
    } else if (fault.kind == FaultKind::kCut) {
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
      network_->StallUntil(fault.role, fault.towards, until_ns);
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
  }
}

void Faults::BeginGlobal(const Fault& fault) {
  ++global_faults_;
  if (fault.duration_us == Fault::kForever || fault.duration_us > kToldWithinUs) {
    cut_off_for_long_ = true;
  }
  if (fault.duration_us == Fault::kForever) return;
  last_end_ns_ = std::max(last_end_ns_, hosts_->NowNanos() + fault.duration_us * 1000);
  After(fault.duration_us, [this] { EndGlobal(); });
}

// One that still lasts keeps everything as it is.
void Faults::EndGlobal() {
  trace_->Note(Side::kWorld, "fault ends");
  if (--global_faults_ == 0) network_->Mend();
}

}  // namespace faultline::sim
