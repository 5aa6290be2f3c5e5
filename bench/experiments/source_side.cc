// The side that the guest leaves.
#include <fmt/format.h>

#include <chrono>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "assembly/parts.h"
#include "assembly/random_bytes.h"
#include "base/monotonic_time.h"
#include "common/region.h"
#include "common/synthetic_vm.h"
#include "experiments/engine_cpu.h"
#include "experiments/guest.h"
#include "experiments/report.h"
#include "experiments/sides.h"

namespace faultline::bench::experiments {
namespace {

// Between two attempts to reach the destination.
constexpr int64_t kAttemptGapMs = 100;

Compression CompressionOf(const Point& point) {
  if (point.compression == "lz4") return Compression::kLz4;
  if (point.compression == "zstd") return Compression::kZstd;
  return point.compression == "off" ? Compression::kOff : Compression::kAuto;
}

absl::StatusOr<SourceParts> SourcePartsFor(const Side& side, const Point& point) {
  SourceParts parts;
  parts.uri = point.transport + "://" + side.address;
  parts.insecure = side.insecure;
  parts.tls = side.tls;
  parts.bandwidth = point.push ? point.bandwidth_bytes_per_second : kHeldBytesPerSecond;
  parts.compression = CompressionOf(point);
  parts.push_order = point.push_order;
  parts.poll_us = point.poll_us;
  parts.integrity = point.integrity;
  RETURN_IF_ERROR(FillRandom(&parts.id));
  return parts;
}

// The destination may still be busy with the step before, or not have been started yet.
bool MayTryAgain(const absl::Status& status, Phase phase) {
  return absl::IsUnavailable(status) && (phase == Phase::kConnecting || phase == Phase::kPreparing);
}

// Whether a session with this point's transport and the side's secrets can be made.
absl::Status CheckSourceSession(const Side& side, const Point& point) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Region> region, Region::Make(1));
  ASSIGN_OR_RETURN(SourceParts parts, SourcePartsFor(side, point));
  parts.vmm = [&region](Executor& control) {
    return std::make_unique<CallbackSourceVmm>(&control, SourceCallbacks(), Describe(*region));
  };
  return MakeSourceSession(std::move(parts)).status();
}

class SourceStep {
 public:
  SourceStep(const Side& side, const std::vector<Parameter>& parameters, const Plan& plan,
             size_t step, const Region& region)
      : side_(side),
        parameters_(parameters),
        plan_(plan),
        step_(step),
        point_(plan.PointOf(step)),
        region_(region),
        guest_(point_, &region, GuestPlace::kSource) {}

  absl::StatusOr<StepFigures> Run() {
    if (point_.before_ms > 0) {
      guest_.Start();
      std::this_thread::sleep_for(std::chrono::milliseconds(point_.before_ms));
    }
    const int64_t give_up_at_ms = MonotonicMs() + side_.wait_ms;
    while (true) {
      const EngineCpu cpu(&guest_);
      Observer observer;
      ASSIGN_OR_RETURN(figures_.result, Migrate(&observer));
      const absl::Status& status = figures_.result.status;
      if (MayTryAgain(status, observer.phase()) && MonotonicMs() < give_up_at_ms) {
        std::this_thread::sleep_for(std::chrono::milliseconds(kAttemptGapMs));
        continue;
      }
      guest_.Stop();
      RETURN_IF_ERROR(status);
      figures_.engine_cpu_seconds = cpu.Seconds();
      figures_.guest = guest_.Figures();
      return std::move(figures_);
    }
  }

 private:
  absl::StatusOr<SessionResult> Migrate(Observer* observer) {
    NoJournal journal;
    ASSIGN_OR_RETURN(SourceParts parts, SourcePartsFor(side_, point_));
    parts.journal = &journal;
    parts.vmm = [this](Executor& control) {
      return std::make_unique<CallbackSourceVmm>(
          &control, GuestThatLeaves([this] { return Leave(); }), Describe(region_));
    };
    ASSIGN_OR_RETURN(const std::unique_ptr<Session> session, MakeSourceSession(std::move(parts)));
    return session->Run(observer);
  }

  std::string Leave() {
    if (guest_.started()) {
      const int64_t age_us = guest_.AgeUs();
      guest_.Stop();
      figures_.before_operations_per_100_ms = guest_.Figures().speed.PerWindow(0, age_us);
    }
    return Farewell(parameters_, plan_, step_, figures_.before_operations_per_100_ms);
  }

  const Side& side_;
  const std::vector<Parameter>& parameters_;
  const Plan& plan_;
  const size_t step_;
  const Point& point_;
  const Region& region_;
  Guest guest_;
  StepFigures figures_;
};

absl::Status RunSourceStep(const Side& side, const std::vector<Parameter>& parameters,
                           const Plan& plan, size_t step) {
  const Point& point = plan.PointOf(step);
  ASSIGN_OR_RETURN(const std::unique_ptr<Region> region, Region::Make(point.pages()));
  RETURN_IF_ERROR(region->Fill(point.allocated_pages(), point.word_repeats));
  SourceStep source(side, parameters, plan, step, *region);
  ASSIGN_OR_RETURN(const StepFigures figures, source.Run());
  Print(ResultLine(Role::kSource, parameters, plan, step, figures));
  if (figures.guest.wrong_reads == 0) return absl::OkStatus();
  return absl::DataLossError(fmt::format("{} wrong reads", figures.guest.wrong_reads));
}

}  // namespace

absl::Status RunSource(const Side& side, const std::vector<Parameter>& parameters,
                       const Plan& plan) {
  for (const Point& point : OneOfEachTransport(plan)) {
    RETURN_IF_ERROR(CheckSourceSession(side, point));
  }
  for (size_t step = 0; step < plan.steps(); ++step) {
    RETURN_IF_ERROR(Annotate(RunSourceStep(side, parameters, plan, step),
                             fmt::format("step {} of {}", step + 1, plan.steps())));
  }
  return absl::OkStatus();
}

}  // namespace faultline::bench::experiments
