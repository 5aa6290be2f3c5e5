#include "micro/stamps.h"

#include <algorithm>

namespace faultline::bench::micro {

Distribution TouchTimes(const StampTable& stamps, uint64_t* arrived_meanwhile) {
  std::vector<int64_t> times_ns;
  times_ns.reserve(stamps.size());
  uint64_t arrived = 0;
  for (const FaultStamps& stamp : stamps) {
    if (stamp.touched_ns == 0) continue;
    const int64_t took_ns = stamp.woken_ns - stamp.touched_ns;
    if (took_ns < kShortestFaultNs) {
      ++arrived;
    } else {
      times_ns.push_back(took_ns);
    }
  }
  if (arrived_meanwhile != nullptr) *arrived_meanwhile = arrived;
  return Summarize(std::move(times_ns));
}

Distribution Between(const StampTable& stamps, int64_t FaultStamps::*from,
                     int64_t FaultStamps::*to) {
  std::vector<int64_t> times_ns;
  times_ns.reserve(stamps.size());
  for (const FaultStamps& stamp : stamps) {
    // Only whole faults: a page that the pusher brought was never answered.
    if (stamp.touched_ns == 0 || stamp.read_ns < stamp.touched_ns || stamp.answered_ns == 0) {
      continue;
    }
    if (stamp.*from != 0 && stamp.*to != 0) times_ns.push_back(stamp.*to - stamp.*from);
  }
  return Summarize(std::move(times_ns));
}

int64_t TouchingNs(const StampTable& stamps) {
  int64_t first_ns = 0;
  int64_t last_ns = 0;
  for (const FaultStamps& stamp : stamps) {
    if (stamp.touched_ns == 0) continue;
    if (first_ns == 0 || stamp.touched_ns < first_ns) first_ns = stamp.touched_ns;
    last_ns = std::max(last_ns, stamp.woken_ns);
  }
  return last_ns - first_ns;
}

}  // namespace faultline::bench::micro
