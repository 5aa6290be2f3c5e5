// The side where the guest arrives, and goes on while its memory follows.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <thread>
#include <utility>

#include "assembly/own_memory.h"
#include "assembly/parts.h"
#include "common/region.h"
#include "common/synthetic_vm.h"
#include "experiments/engine_cpu.h"
#include "experiments/guest.h"
#include "experiments/report.h"
#include "experiments/sides.h"

namespace faultline::bench::experiments {
namespace {

DestinationParts DestinationPartsFor(const Side& side, const Point& point) {
  DestinationParts parts;
  parts.uri = point.transport + "://" + side.address;
  parts.insecure = side.insecure;
  parts.tls = side.tls;
  parts.poll_us = point.poll_us;
  parts.read_around = point.read_around;
  parts.integrity = point.integrity;
  parts.memory = [](Executor& demand, FdPoller& poller) {
    return MakeOwnMemory(&demand, &poller, FileDescriptor());
  };
  return parts;
}

// Whether a session with this point's transport and the side's secrets can be made.
absl::Status CheckDestinationSession(const Side& side, const Point& point) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Region> region, Region::Make(1));
  DestinationParts parts = DestinationPartsFor(side, point);
  parts.vmm = [&region](Executor& control) {
    return std::make_unique<CallbackDestinationVmm>(&control, DestinationCallbacks(),
                                                    Describe(*region));
  };
  return MakeDestinationSession(std::move(parts)).status();
}

class DestinationStep {
 public:
  // `side->address` becomes the one that it really listened on.
  DestinationStep(Side* side, const std::vector<Parameter>& parameters, const Plan& plan,
                  size_t step, const Region& region)
      : side_(side),
        parameters_(parameters),
        plan_(plan),
        step_(step),
        point_(plan.PointOf(step)),
        region_(region),
        guest_(point_, &region, GuestPlace::kDestination) {}

  absl::StatusOr<StepFigures> Run() {
    const EngineCpu cpu(&guest_);
    ASSIGN_OR_RETURN(figures_.result, Migrate());
    if (!figures_.result.status.ok()) return Fail(figures_.result.status);
    figures_.engine_cpu_seconds = cpu.Seconds();
    const int64_t whole_at_us = guest_.AgeUs();
    std::this_thread::sleep_for(std::chrono::milliseconds(point_.after_ms));
    const int64_t end_us = guest_.AgeUs();
    guest_.Stop();
    figures_.guest = guest_.Figures();
    const Speed& speed = figures_.guest.speed;
    // Where pages come on demand only, the guest does not work while it touches the rest.
    const auto total_us = static_cast<int64_t>(figures_.result.total_us);
    const int64_t missing_us =
        point_.push ? total_us : std::min(total_us, point_.demand_only_ms * 1000);
    figures_.missing_operations_per_100_ms = speed.PerWindow(0, missing_us);
    figures_.after_operations_per_100_ms = speed.PerWindow(whole_at_us, end_us);
    figures_.wrong_pages = guest_.CountWrongPages();
    return std::move(figures_);
  }

 private:
  // Ends the session before it returns: the source comes for the next step.
  absl::StatusOr<SessionResult> Migrate() {
    NoJournal journal;
    DestinationParts parts = DestinationPartsFor(*side_, point_);
    parts.journal = &journal;
    parts.vmm = [this](Executor& control) {
      return std::make_unique<CallbackDestinationVmm>(
          &control,
          GuestThatArrives([this](const std::string& farewell) { return Load(farewell); },
                           [this] { guest_.Start(); }),
          Describe(region_));
    };
    ASSIGN_OR_RETURN(const std::unique_ptr<Session> session,
                     MakeDestinationSession(std::move(parts)));
    Observer observer([this](const std::string& address) { Listen(address); });
    return session->Run(&observer);
  }

  absl::Status Load(const std::string& farewell) {
    ASSIGN_OR_RETURN(figures_.before_operations_per_100_ms,
                     ReadFarewell(parameters_, plan_, step_, farewell));
    return absl::OkStatus();
  }

  void Listen(const std::string& address) {
    side_->address = address;
    if (step_ == 0) Print({{"event", "listening"}, {"address", address}});
  }

  absl::Status Fail(const absl::Status& status) {
    if (!guest_.started()) return status;
    fprintf(stderr, "faultline-bench: step %zu: the guest is lost: %s\n", step_ + 1,
            MessageOf(status).c_str());
    _exit(1);
  }

  Side* const side_;
  const std::vector<Parameter>& parameters_;
  const Plan& plan_;
  const size_t step_;
  const Point& point_;
  const Region& region_;
  Guest guest_;
  StepFigures figures_;
};

absl::Status RunDestinationStep(Side* side, const std::vector<Parameter>& parameters,
                                const Plan& plan, size_t step) {
  const Point& point = plan.PointOf(step);
  ASSIGN_OR_RETURN(const std::unique_ptr<Region> region, Region::Make(point.pages()));
  RETURN_IF_ERROR(region->WarmUp(point.allocated_pages()));
  DestinationStep destination(side, parameters, plan, step, *region);
  ASSIGN_OR_RETURN(const StepFigures figures, destination.Run());
  Print(ResultLine(Role::kDestination, parameters, plan, step, figures));
  if (figures.guest.wrong_reads == 0 && figures.wrong_pages == 0) return absl::OkStatus();
  return absl::DataLossError(fmt::format("{} wrong reads, {} wrong pages",
                                         figures.guest.wrong_reads, figures.wrong_pages));
}

}  // namespace

absl::Status RunDestination(const Side& side, const std::vector<Parameter>& parameters,
                            const Plan& plan) {
  for (const Point& point : OneOfEachTransport(plan)) {
    RETURN_IF_ERROR(CheckDestinationSession(side, point));
  }
  Side mine = side;
  for (size_t step = 0; step < plan.steps(); ++step) {
    RETURN_IF_ERROR(Annotate(RunDestinationStep(&mine, parameters, plan, step),
                             fmt::format("step {} of {}", step + 1, plan.steps())));
  }
  return absl::OkStatus();
}

}  // namespace faultline::bench::experiments
