#include "base/histogram.h"

#include <algorithm>
#include <bit>

namespace faultline {

size_t Histogram::BucketOf(uint64_t value) {
  if (value < (1u << kSubBucketBits)) return value;
  int exponent = 63 - std::countl_zero(value);
  int shift = exponent - kSubBucketBits;
  size_t sub_bucket = (value >> shift) - (1u << kSubBucketBits);
  return (static_cast<size_t>(shift + 1) << kSubBucketBits) + sub_bucket;
}

uint64_t Histogram::UpperBound(size_t bucket) {
  if (bucket < (1u << kSubBucketBits)) return bucket;
  int shift = static_cast<int>(bucket >> kSubBucketBits) - 1;
  uint64_t sub_bucket = (bucket & ((1u << kSubBucketBits) - 1)) + (1u << kSubBucketBits);
  return ((sub_bucket + 1) << shift) - 1;
}

void Histogram::Record(uint64_t value) {
  counts_[BucketOf(value)].fetch_add(1, std::memory_order_relaxed);
  if (value > max_.load(std::memory_order_relaxed)) max_.store(value, std::memory_order_relaxed);
}

HistogramSummary Histogram::Summarize() const {
  std::array<uint64_t, kBucketCount> counts;
  HistogramSummary summary;
  for (size_t i = 0; i < kBucketCount; ++i) {
    counts[i] = counts_[i].load(std::memory_order_relaxed);
    summary.count += counts[i];
  }
  summary.max = max_.load(std::memory_order_relaxed);
  auto percentile = [&](uint64_t per_mille) {
    uint64_t rank = (summary.count * per_mille + 999) / 1000;
    uint64_t seen = 0;
    for (size_t i = 0; i < kBucketCount; ++i) {
      seen += counts[i];
      if (seen >= rank && seen > 0) return std::min(UpperBound(i), summary.max);
    }
    return summary.max;
  };
  summary.p50 = percentile(500);
  summary.p90 = percentile(900);
  summary.p99 = percentile(990);
  summary.p999 = percentile(999);
  return summary;
}

}  // namespace faultline
