// The monotonic clock, in the units that waits and reports count in.
#ifndef FAULTLINE_BASE_MONOTONIC_TIME_H_
#define FAULTLINE_BASE_MONOTONIC_TIME_H_

#include <chrono>
#include <cstdint>

namespace faultline {

// Microseconds and milliseconds since an arbitrary point. Any thread.
inline int64_t MonotonicUs() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}
inline int64_t MonotonicMs() { return MonotonicUs() / 1000; }

}  // namespace faultline

#endif  // FAULTLINE_BASE_MONOTONIC_TIME_H_
