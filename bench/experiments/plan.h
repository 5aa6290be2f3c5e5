// Which points are run, in which order, and whether the other side has the same ones.
#ifndef FAULTLINE_BENCH_EXPERIMENTS_PLAN_H_
#define FAULTLINE_BENCH_EXPERIMENTS_PLAN_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "experiments/parameters.h"
#include "experiments/point.h"

namespace faultline::bench::experiments {

// Every point once, then all of them once more, so that a machine that gets slower does so for all.
struct Plan {
  std::vector<Point> points;
  uint64_t repeats = 1;

  size_t steps() const { return points.size() * repeats; }
  const Point& PointOf(size_t step) const { return points[step % points.size()]; }
  size_t RepeatOf(size_t step) const { return step / points.size(); }
};

// A limit against a slip of the pen: a year of points.
inline constexpr size_t kStepsMax = 1'000'000;

// `base` alone `repeats` times; or, with the text of a sweep file, its cartesian product: an object
// whose members are parameters, each with one value or a list of them, and perhaps "repeats". What
// it does not name is as in `base`. The last member changes fastest. InvalidArgument names the
// member.
absl::StatusOr<Plan> MakePlan(const std::vector<Parameter>& parameters, const Point& base,
                              uint64_t repeats, const std::optional<std::string>& sweep);

// One point of each transport that the plan has: what a side cannot do is found before anything
// runs.
std::vector<Point> OneOfEachTransport(const Plan& plan);

// What the source's guest tells the destination's as it leaves: the plan, where both are in it, and
// how fast the guest was (operations in 100 ms, if it worked).
std::string Farewell(const std::vector<Parameter>& parameters, const Plan& plan, size_t step,
                     std::optional<double> operations_per_100_ms);
// The speed in the farewell of a source that runs the same plan and is at the same step. An error
// says what differs.
absl::StatusOr<std::optional<double>> ReadFarewell(const std::vector<Parameter>& parameters,
                                                   const Plan& plan, size_t step,
                                                   const std::string& farewell);

}  // namespace faultline::bench::experiments

#endif  // FAULTLINE_BENCH_EXPERIMENTS_PLAN_H_
