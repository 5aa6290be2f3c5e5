// How long to wait before the next try.
#ifndef FAULTLINE_ENGINE_BACK_OFF_H_
#define FAULTLINE_ENGINE_BACK_OFF_H_

#include <algorithm>
#include <cstdint>

namespace faultline {

// Pauses that double from `first_us` to `max_us`.
class BackOff {
 public:
  BackOff(int64_t first_us, int64_t max_us) : first_us_(first_us), max_us_(max_us) { Reset(); }

  int64_t Next() {
    const int64_t pause_us = next_us_;
    next_us_ = std::min(2 * next_us_, max_us_);
    return pause_us;
  }
  void Reset() { next_us_ = std::min(first_us_, max_us_); }

 private:
  const int64_t first_us_;
  const int64_t max_us_;
  int64_t next_us_ = 0;
};

}  // namespace faultline

#endif  // FAULTLINE_ENGINE_BACK_OFF_H_
