// When each stage of each page's fault was reached, and what that comes to.
#ifndef FAULTLINE_BENCH_MICRO_STAMPS_H_
#define FAULTLINE_BENCH_MICRO_STAMPS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "common/distribution.h"

namespace faultline::bench::micro {

// Monotonic nanoseconds; 0: not reached, or not known.
struct FaultStamps {
  int64_t touched_ns = 0;    // the toucher, before its touch
  int64_t read_ns = 0;       // the event was read
  int64_t sent_ns = 0;       // the request is with the socket (floors)
  int64_t answered_ns = 0;   // the page's bytes are here
  int64_t installed_ns = 0;  // UFFDIO_COPY returned
  int64_t woken_ns = 0;      // the toucher, after its touch
};

// By page. A page's fields are written by one thread each and read once all have ended.
using StampTable = std::vector<FaultStamps>;

struct Stage {
  std::string name;
  Distribution ns;
};

// How long touches took that found their page missing. A touch that was shorter than any fault can
// be found a page that had just come; `arrived_meanwhile` (may be null) counts these.
Distribution TouchTimes(const StampTable& stamps, uint64_t* arrived_meanwhile);
// The time between two stages, over the faults for which both are known. May be negative: a waiter
// is woken inside UFFDIO_COPY, before it returns.
Distribution Between(const StampTable& stamps, int64_t FaultStamps::*from,
                     int64_t FaultStamps::*to);
// From the first touch to the last wake; 0 if nothing was touched.
int64_t TouchingNs(const StampTable& stamps);

}  // namespace faultline::bench::micro

#endif  // FAULTLINE_BENCH_MICRO_STAMPS_H_
