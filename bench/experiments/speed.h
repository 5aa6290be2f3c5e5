// How many operations the guest did, over time.
#ifndef FAULTLINE_BENCH_EXPERIMENTS_SPEED_H_
#define FAULTLINE_BENCH_EXPERIMENTS_SPEED_H_

#include <cstdint>
#include <optional>
#include <vector>

namespace faultline::bench::experiments {

inline constexpr int64_t kBinUs = 10'000;
inline constexpr int64_t kWindowUs = 100'000;

// Operations in consecutive bins of kBinUs, the first one from the guest's start. One thread.
class Speed {
 public:
  // An operation that ended so long after the guest's start.
  void Count(int64_t after_us) {
    const auto bin = static_cast<uint64_t>(after_us / kBinUs);
    if (bin >= bins_.size()) bins_.resize(bin + 1);
    ++bins_[bin];
  }
  void Add(const Speed& other);

  const std::vector<uint64_t>& bins() const { return bins_; }
  uint64_t total() const;
  // The median of the operations in consecutive windows of kWindowUs, of whole bins between these
  // moments after the start. Nothing if there is no whole bin between them; the mean, as if for
  // kWindowUs, if there is no whole window.
  std::optional<double> PerWindow(int64_t begin_us, int64_t end_us) const;

 private:
  uint64_t InBins(uint64_t begin, uint64_t end) const;

  std::vector<uint64_t> bins_;
};

}  // namespace faultline::bench::experiments

#endif  // FAULTLINE_BENCH_EXPERIMENTS_SPEED_H_
