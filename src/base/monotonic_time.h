// The monotonic clock, in the units that waits and reports count in.
#ifndef FAULTLINE_BASE_MONOTONIC_TIME_H_
#define FAULTLINE_BASE_MONOTONIC_TIME_H_

#include <chrono>
#include <cstdint>

namespace faultline {

// Nano-, micro- and milliseconds since an arbitrary point, the executors' own. Any thread.
inline int64_t MonotonicNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}
inline int64_t MonotonicUs() { return MonotonicNs() / 1000; }
inline int64_t MonotonicMs() { return MonotonicNs() / 1'000'000; }

}  // namespace faultline

#endif  // FAULTLINE_BASE_MONOTONIC_TIME_H_
