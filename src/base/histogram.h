// A latency histogram with fixed memory and about 3% resolution.
//
// Thread safety: one thread records; any thread may take a snapshot.
#ifndef FAULTLINE_BASE_HISTOGRAM_H_
#define FAULTLINE_BASE_HISTOGRAM_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace faultline {

struct HistogramSummary {
  uint64_t count = 0;
  uint64_t p50 = 0;
  uint64_t p90 = 0;
  uint64_t p99 = 0;
  uint64_t p999 = 0;
  uint64_t max = 0;
};

class Histogram {
 public:
  // Adds one value (any unit). Relaxed increments: a snapshot may miss what is just being added.
  void Record(uint64_t value);
  // Percentiles are upper bounds of their bucket, capped at the exact maximum.
  HistogramSummary Summarize() const;

 private:
  static constexpr int kSubBucketBits = 5;
  static constexpr size_t kBucketCount = (64 - kSubBucketBits + 1) << kSubBucketBits;

  static size_t BucketOf(uint64_t value);
  static uint64_t UpperBound(size_t bucket);

  std::array<std::atomic<uint64_t>, kBucketCount> counts_{};
  std::atomic<uint64_t> max_{0};
};

}  // namespace faultline

#endif  // FAULTLINE_BASE_HISTOGRAM_H_
