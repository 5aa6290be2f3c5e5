#include "micro/stamps.h"

#include <algorithm>

namespace faultline::micro {
namespace {

// No round trip over a socket and UFFDIO_COPY is as short; a touch of a present page is 0.1 us, of
// one that is in the file but not mapped yet 0.3 to 1 us.
constexpr int64_t kShortestFaultNs = 2'000;

}  // namespace

Distribution Summarize(std::vector<int64_t> values_ns) {
  Distribution result;
  result.count = values_ns.size();
  if (values_ns.empty()) return result;
  std::sort(values_ns.begin(), values_ns.end());
  auto at = [&](uint64_t per_mille) {
    const uint64_t rank = (result.count * per_mille + 999) / 1000;
    return values_ns[std::max<uint64_t>(rank, 1) - 1];
  };
  result.p50 = at(500);
  result.p90 = at(900);
  result.p99 = at(990);
  result.p999 = at(999);
  result.max = values_ns.back();
  return result;
}

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

}  // namespace faultline::micro
