// The two sides of an experiment. Each goes through the plan's steps and prints a line for each.
#ifndef FAULTLINE_BENCH_EXPERIMENTS_SIDES_H_
#define FAULTLINE_BENCH_EXPERIMENTS_SIDES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "assembly/sessions.h"
#include "base/status.h"
#include "experiments/parameters.h"
#include "experiments/plan.h"

namespace faultline::bench::experiments {

// What a side was told beyond the plan; the sides' differ.
struct Side {
  std::string address;  // HOST:PORT, to listen on (port 0: any) or to connect to
  bool insecure = false;
  TlsChoice tls;
  int64_t wait_ms = 60'000;  // source: for how long it tries again to reach the destination
};

// Each blocks until all steps are done, or until the first one that failed, whose error names it.
// A destination whose guest has already begun ends the process if its session fails: the guest
// waits for pages that will never come.
absl::Status RunDestination(const Side& side, const std::vector<Parameter>& parameters,
                            const Plan& plan);
absl::Status RunSource(const Side& side, const std::vector<Parameter>& parameters,
                       const Plan& plan);

}  // namespace faultline::bench::experiments

#endif  // FAULTLINE_BENCH_EXPERIMENTS_SIDES_H_
