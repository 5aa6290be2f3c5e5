#include "experiments/speed.h"

#include <algorithm>
#include <numeric>

namespace faultline::bench::experiments {

void Speed::Add(const Speed& other) {
  if (other.bins_.size() > bins_.size()) bins_.resize(other.bins_.size());
  for (size_t i = 0; i < other.bins_.size(); ++i) bins_[i] += other.bins_[i];
}

uint64_t Speed::total() const { return InBins(0, bins_.size()); }

uint64_t Speed::InBins(uint64_t begin, uint64_t end) const {
  // Nothing is counted after the last operation.
  auto at = [this](uint64_t bin) {
    return bins_.begin() + static_cast<int64_t>(std::min<uint64_t>(bin, bins_.size()));
  };
  return std::accumulate(at(begin), at(end), uint64_t{0});
}

std::optional<double> Speed::PerWindow(int64_t begin_us, int64_t end_us) const {
  constexpr uint64_t kBins = kWindowUs / kBinUs;
  const auto begin = static_cast<uint64_t>((std::max<int64_t>(begin_us, 0) + kBinUs - 1) / kBinUs);
  const auto end = static_cast<uint64_t>(std::max<int64_t>(end_us, 0) / kBinUs);
  if (begin >= end) return std::nullopt;
  std::vector<uint64_t> windows;
  for (uint64_t bin = begin; bin + kBins <= end; bin += kBins) {
    windows.push_back(InBins(bin, bin + kBins));
  }
  if (windows.empty()) {
    return static_cast<double>(InBins(begin, end) * kBins) / static_cast<double>(end - begin);
  }
  std::sort(windows.begin(), windows.end());
  const size_t middle = windows.size() / 2;
  if (windows.size() % 2 == 1) return static_cast<double>(windows[middle]);
  return static_cast<double>(windows[middle - 1] + windows[middle]) / 2;
}

}  // namespace faultline::bench::experiments
