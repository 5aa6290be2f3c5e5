// Whole sessions of the engine, with a program's own memory and no devices.
#include <unistd.h>

#include <cstdio>
#include <functional>
#include <memory>
#include <utility>

#include "assembly/own_memory.h"
#include "assembly/parts.h"
#include "assembly/random_bytes.h"
#include "common/synthetic_vm.h"
#include "micro/sides.h"
#include "micro/stamping_memory.h"
#include "micro/touchers.h"

namespace faultline::bench::micro {
namespace {

Distribution InNs(const HistogramSummary& summary) {
  auto ns = [](uint64_t value) { return static_cast<int64_t>(value); };
  return {summary.count,   ns(summary.p50),  ns(summary.p90),
          ns(summary.p99), ns(summary.p999), ns(summary.max)};
}

// The engine's own stages between the two that only the guest's side of the memory sees.
std::vector<Stage> Stages(const StampTable& stamps, const FaultStageSummary& engine) {
  using S = FaultStamps;
  return {{"touched_to_read", Between(stamps, &S::touched_ns, &S::read_ns)},
          {"read_to_sent", InNs(engine.read_to_sent_ns)},
          {"sent_to_answered", InNs(engine.sent_to_answered_ns)},
          {"answered_to_installed", InNs(engine.answered_to_installed_ns)},
          {"installed_to_woken", Between(stamps, &S::installed_ns, &S::woken_ns)}};
}

}  // namespace

absl::StatusOr<DestinationFigures> RunEngineDestination(const Plan& plan, const Region& region,
                                                        StampTable* stamps,
                                                        const Listening& listening) {
  NoJournal journal;
  Touchers touchers(plan, &region, stamps);
  DestinationParts parts;
  const DestinationCallbacks guest =
      GuestThatArrives([](const std::string&) { return absl::OkStatus(); },
                       [&touchers, &plan] {
                         if (plan.measure != Measure::kBulk) touchers.Start();
                       });
  parts.vmm = [&guest, &region](Executor& control) {
    return std::make_unique<CallbackDestinationVmm>(&control, guest, Describe(region));
  };
  parts.memory = [stamps](Executor& demand, FdPoller& poller) {
    return std::make_unique<StampingMemoryFactory>(
        MakeOwnMemory(&demand, &poller, FileDescriptor()), stamps);
  };
  parts.uri = "tcp://" + plan.address;
  parts.insecure = true;
  parts.poll_us = plan.poll_us;
  parts.read_around = !plan.page_alone;
  parts.integrity = plan.integrity ? IntegrityWish::kOn : IntegrityWish::kOff;
  parts.journal = &journal;
  ASSIGN_OR_RETURN(const std::unique_ptr<Session> session,
                   MakeDestinationSession(std::move(parts)));
  Observer observer(listening);
  const SessionResult result = session->Run(&observer);
  // A toucher whose page cannot come waits for good: the process ends all the same.
  if (!result.status.ok()) {
    fprintf(stderr, "%s\n", MessageOf(result.status).c_str());
    _exit(1);
  }
  touchers.Join();
  DestinationFigures figures;
  figures.transfer_seconds = static_cast<double>(result.total_us) / 1e6;
  figures.toucher_cpu_seconds = touchers.cpu_seconds();
  figures.pages_demand = result.last.pages_demand;
  figures.pages_pushed = result.last.pages_pushed;
  figures.bytes_wire = result.last.bytes_wire;
  if (plan.measure != Measure::kBulk) figures.stages = Stages(*stamps, result.fault_stages);
  return figures;
}

absl::Status RunEngineSource(const Plan& plan, const Region& region) {
  NoJournal journal;
  SourceParts parts;
  parts.vmm = [&region](Executor& control) {
    return std::make_unique<CallbackSourceVmm>(
        &control, GuestThatLeaves([] { return std::string(1, '\1'); }), Describe(region));
  };
  parts.uri = "tcp://" + plan.address;
  parts.insecure = true;
  parts.poll_us = plan.poll_us;
  parts.integrity = plan.integrity ? IntegrityWish::kOn : IntegrityWish::kOff;
  RETURN_IF_ERROR(FillRandom(&parts.id));
  if (plan.measure == Measure::kFaults) parts.bandwidth = kHeldBytesPerSecond;
  parts.journal = &journal;
  ASSIGN_OR_RETURN(const std::unique_ptr<Session> session, MakeSourceSession(std::move(parts)));
  Observer observer;
  return session->Run(&observer).status;
}

}  // namespace faultline::bench::micro
