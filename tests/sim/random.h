// The simulation's random numbers: small, fast, and the same on every machine.
#ifndef FAULTLINE_TESTS_SIM_RANDOM_H_
#define FAULTLINE_TESTS_SIM_RANDOM_H_

#include <algorithm>
#include <bit>
#include <cstdint>

namespace faultline::sim {

// SplitMix64. One stream for each purpose, so that one part's draws do not shift another's.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t Next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  // 0 to limit - 1.
  uint64_t Below(uint64_t limit) { return Next() % limit; }
  // Both ends included.
  int64_t Between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(Below(static_cast<uint64_t>(high - low) + 1));
  }
  bool Chance(uint64_t percent) { return Below(100) < percent; }
  // As likely between 10 and 20 as between 1,000 and 2,000. 1 <= low <= high.
  int64_t LogBetween(int64_t low, int64_t high) {
    const int bits = static_cast<int>(Between(std::bit_width(static_cast<uint64_t>(low)),
                                              std::bit_width(static_cast<uint64_t>(high)))) -
                     1;
    const int64_t octave = int64_t{1} << bits;
    return Between(std::max(low, octave), std::min(high, 2 * octave - 1));
  }

 private:
  uint64_t state_;
};

}  // namespace faultline::sim

#endif  // FAULTLINE_TESTS_SIM_RANDOM_H_
