// A rate limit by arithmetic. Pure.
#ifndef FAULTLINE_TRANSPORT_TCP_TOKEN_BUCKET_H_
#define FAULTLINE_TRANSPORT_TCP_TOKEN_BUCKET_H_

#include <algorithm>
#include <cstdint>

namespace faultline {

// Lets bytes through at a rate. A sender may begin whenever it is not in debt, however much it
// sends at once, and then waits the debt off: single large pages pass, and the mean holds. One
// thread.
class TokenBucket {
 public:
  // 0: no limit. `now_ns` is any monotonic clock.
  TokenBucket(uint64_t bytes_per_second, int64_t now_ns)
      : bytes_per_second_(static_cast<double>(bytes_per_second)), filled_ns_(now_ns) {}

  // Nanoseconds until the next Take is allowed; 0: now.
  int64_t WaitNanos(int64_t now_ns) {
    if (bytes_per_second_ == 0) return 0;
    double gained = static_cast<double>(now_ns - filled_ns_) * bytes_per_second_ / 1e9;
    filled_ns_ = now_ns;
    tokens_ = std::min(tokens_ + gained, bytes_per_second_ * kBurstSeconds);
    return tokens_ >= 0 ? 0 : static_cast<int64_t>(-tokens_ * 1e9 / bytes_per_second_) + 1;
  }

  void Take(uint64_t bytes) {
    if (bytes_per_second_ != 0) tokens_ -= static_cast<double>(bytes);
  }

 private:
  // Timers are late by a millisecond or two; what was missed meanwhile may be caught up with.
  static constexpr double kBurstSeconds = 0.01;

  const double bytes_per_second_;
  int64_t filled_ns_;
  double tokens_ = 0;  // below 0: in debt
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_TCP_TOKEN_BUCKET_H_
