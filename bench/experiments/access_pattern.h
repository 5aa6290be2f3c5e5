// Which page a thread of the guest touches next.
#ifndef FAULTLINE_BENCH_EXPERIMENTS_ACCESS_PATTERN_H_
#define FAULTLINE_BENCH_EXPERIMENTS_ACCESS_PATTERN_H_

#include <cstdint>
#include <memory>

#include "experiments/point.h"

namespace faultline::bench::experiments {

// Deterministic. One thread.
class AccessPattern {
 public:
  virtual ~AccessPattern() = default;
  // Of [0, count).
  virtual uint64_t Next() = 0;
};

// The point's pattern over `count` pages (1 to 2^32):
//   uniform     every page is as likely as any other
//   zipf        the page of rank r is touched in proportion to r^-zipf_theta
//   hotset      of the touches hot_access_share, evenly, go to hot_memory_share of the pages (at
//               least one), the others to the rest
//   sequential  in order, again and again
// The ranks and the hot pages are scattered at random.
std::unique_ptr<AccessPattern> MakeAccessPattern(const Point& point, uint64_t count, uint64_t seed);

}  // namespace faultline::bench::experiments

#endif  // FAULTLINE_BENCH_EXPERIMENTS_ACCESS_PATTERN_H_
