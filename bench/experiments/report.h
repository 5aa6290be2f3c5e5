// What the sides print: one JSON object a line.
#ifndef FAULTLINE_BENCH_EXPERIMENTS_REPORT_H_
#define FAULTLINE_BENCH_EXPERIMENTS_REPORT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/session_report.h"
#include "experiments/guest.h"
#include "experiments/parameters.h"
#include "experiments/plan.h"

namespace faultline::bench::experiments {

// One step on one side. Times are since the guest's start there.
struct StepFigures {
  SessionResult result;
  GuestFigures guest;
  double engine_cpu_seconds = 0;                        // of the session
  std::optional<double> before_operations_per_100_ms;   // on the source
  std::optional<double> missing_operations_per_100_ms;  // destination, while memory was missing
  std::optional<double> after_operations_per_100_ms;    // destination, from the last page on
  uint64_t wrong_pages = 0;
};

// Puts a line out at once.
void Print(const Json& line);
// The line of a step, for either side.
Json ResultLine(Role role, const std::vector<Parameter>& parameters, const Plan& plan, size_t step,
                const StepFigures& figures);
// This host: name, processors, memory, kernel.
Json DescribeMachine();

}  // namespace faultline::bench::experiments

#endif  // FAULTLINE_BENCH_EXPERIMENTS_REPORT_H_
