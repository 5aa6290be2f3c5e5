#include "transport/tcp/share_probe.h"

#include <algorithm>
#include <numeric>

namespace faultline {

uint64_t ShareProbe::Note(double rate, uint64_t bound_bytes) {
  last_[count_++ % last_.size()] = rate;
  if (count_ < last_.size()) return bound_bytes;
  const double recent =
      std::accumulate(last_.begin(), last_.end(), 0.0) / static_cast<double>(last_.size());
  const double peak = *std::max_element(last_.begin(), last_.end());
  best_ = std::max(best_, recent);
  ++samples_;
  sum_ += rate;
  if (share_bytes_ != 0 && recent >= 0.8 * best_) {
    share_bytes_ = 0;  // the link is ours again
    trying_ = helped_ = false;
    samples_ = kPauseSamples;
  } else if (trying_) {
    if (samples_ >= kStepSamples) Judge();
  } else if (samples_ >= kPauseSamples && peak < 0.5 * best_ && recent > 0) {
    before_ = recent;
    share_bytes_ = 2 * std::max(share_bytes_, bound_bytes);
    trying_ = true;
    samples_ = 0;
    sum_ = 0;
  }
  return std::max(share_bytes_, bound_bytes);
}

void ShareProbe::Judge() {
  const double brought = sum_ / samples_;
  samples_ = 0;
  sum_ = 0;
  if (brought > kHelped * before_) {
    helped_ = true;
    before_ = brought;
    share_bytes_ *= 2;
    return;
  }
  trying_ = false;
  share_bytes_ = helped_ ? share_bytes_ / 2 : 0;
  if (!helped_) best_ *= 0.9;  // a slow link is believed in the end
}

}  // namespace faultline
