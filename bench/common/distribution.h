// Exact order statistics of times.
#ifndef FAULTLINE_BENCH_COMMON_DISTRIBUTION_H_
#define FAULTLINE_BENCH_COMMON_DISTRIBUTION_H_

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <vector>

namespace faultline::bench {

// Nanoseconds; 0 everywhere if nothing was counted.
struct Distribution {
  uint64_t count = 0;
  int64_t p50 = 0;
  int64_t p90 = 0;
  int64_t p99 = 0;
  int64_t p999 = 0;
  int64_t max = 0;
};

Distribution Summarize(std::vector<int64_t> values_ns);

// {"count": ..., "p50_us": ..., ...}; microseconds, with fractions.
nlohmann::ordered_json InMicroseconds(const Distribution& ns);

// The shortest time that a touch can take which waits for a page: no round trip over a network and
// UFFDIO_COPY is as short. A touch of a present page is 0.1 us, of one that is in the file but not
// mapped yet 0.3 to 1 us.
inline constexpr int64_t kShortestFaultNs = 2'000;

}  // namespace faultline::bench

#endif  // FAULTLINE_BENCH_COMMON_DISTRIBUTION_H_
