// The two sides of a run, and what each has to tell.
#ifndef FAULTLINE_BENCH_MICRO_SIDES_H_
#define FAULTLINE_BENCH_MICRO_SIDES_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "common/region.h"
#include "common/synthetic_vm.h"
#include "micro/plan.h"
#include "micro/stamps.h"

namespace faultline::bench::micro {

struct DestinationFigures {
  double transfer_seconds = 0;  // from the start to the last page
  double toucher_cpu_seconds = 0;
  uint64_t pages_demand = 0;
  uint64_t pages_pushed = 0;
  uint64_t bytes_wire = 0;    // engine only
  std::vector<Stage> stages;  // of a fault, in order
};

// Each blocks until the run has ended. `region` is empty on the destination and full on the source.
// Touched pages leave their stamps in `stamps`, which has one entry a page.
absl::StatusOr<DestinationFigures> RunFloorDestination(const Plan& plan, const Region& region,
                                                       StampTable* stamps,
                                                       const Listening& listening);
absl::Status RunFloorSource(const Plan& plan, const Region& region);
absl::StatusOr<DestinationFigures> RunEngineDestination(const Plan& plan, const Region& region,
                                                        StampTable* stamps,
                                                        const Listening& listening);
absl::Status RunEngineSource(const Plan& plan, const Region& region);

}  // namespace faultline::bench::micro

#endif  // FAULTLINE_BENCH_MICRO_SIDES_H_
