// Random numbers that are the same on every machine.
#ifndef FAULTLINE_BENCH_EXPERIMENTS_RANDOM_H_
#define FAULTLINE_BENCH_EXPERIMENTS_RANDOM_H_

#include <cstdint>

namespace faultline::bench::experiments {

// SplitMix64 (Steele, Lea, Flood 2014): small, fast, good enough for choosing pages.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t Next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  // Of [0, limit), `limit` at most 2^32; the bias is below 2^-32.
  uint64_t Below(uint64_t limit) { return ((Next() >> 32) * limit) >> 32; }
  // Of [0, 1).
  double Unit() { return static_cast<double>(Next() >> 11) * 0x1p-53; }

 private:
  uint64_t state_;
};

}  // namespace faultline::bench::experiments

#endif  // FAULTLINE_BENCH_EXPERIMENTS_RANDOM_H_
