#include "transport/tcp/pack_policy.h"

#include <algorithm>
#include <bit>

namespace faultline {

bool PackPolicy::WantsSample(int64_t now_ns) const {
  if (mode_ != Compression::kAuto || packing_) return false;
  return samples_ == 0 ||
         now_ns - sampled_ns_ >= (samples_ < kSamplesMin ? kFirstSampleNs : kSampleNs);
}

void PackPolicy::NotePacking(int64_t now_ns, uint64_t in_bytes, uint64_t out_bytes,
                             int64_t spent_ns) {
  const double ratio = static_cast<double>(out_bytes) / static_cast<double>(in_bytes);
  const double ns_per_byte = static_cast<double>(spent_ns) / static_cast<double>(in_bytes);
  const double weight = samples_ == 0 ? 1 : kWeight;
  ratio_ += weight * (ratio - ratio_);
  ns_per_byte_ += weight * (ns_per_byte - ns_per_byte_);
  samples_ = std::min(samples_ + 1, kSamplesMin);
  sampled_ns_ = now_ns;
}

// While the link makes the lane wait, packing costs no time of its own: the slower of the two sets
// the pace.
double PackPolicy::PredictedGain() const {
  const double link_rate =
      std::max(unpacked_rate_, *std::max_element(peaks_.begin(), peaks_.end()));
  const double packer = kPackerShare / std::max(ns_per_byte_ * link_rate, 1e-9);
  return std::min(packer, 1 / std::max(ratio_, 1e-3));
}

void PackPolicy::NotePeak(int64_t now_ns) {
  if (now_ns - peak_began_ns_ < kPeakWindowNs) return;
  peaks_[next_peak_] =
      static_cast<double>(peak_bytes_) / static_cast<double>(now_ns - peak_began_ns_);
  next_peak_ = (next_peak_ + 1) % peaks_.size();
  peak_began_ns_ = now_ns;
  peak_bytes_ = 0;
}

double PackPolicy::TakeWindow(int64_t now_ns) {
  const double rate =
      static_cast<double>(window_bytes_) / static_cast<double>(now_ns - window_began_ns_);
  window_began_ns_ = now_ns;
  window_bytes_ = 0;
  return rate;
}

bool PackPolicy::ShouldPack(int64_t now_ns) {
  if (mode_ != Compression::kAuto) return mode_ == Compression::kLz4;
  if (window_began_ns_ < 0) window_began_ns_ = peak_began_ns_ = now_ns;
  return packing_ ? WorthStaying(now_ns) : WorthBeginning(now_ns);
}

bool PackPolicy::WorthBeginning(int64_t now_ns) {
  NotePeak(now_ns);
  if (now_ns - window_began_ns_ >= kUnpackedWindowNs) unpacked_rate_ = TakeWindow(now_ns);
  if (samples_ < kSamplesMin || unpacked_rate_ <= 0 || now_ns < paused_until_ns_) return false;
  if (PredictedGain() < kGainToBegin) return false;
  packing_ = true;
  began_ns_ = window_began_ns_ = now_ns;
  window_bytes_ = 0;
  return true;
}

bool PackPolicy::WorthStaying(int64_t now_ns) {
  // Other memory than before; what follows is sampled again.
  if (ratio_ * kGainToStay > 1) {
    End(now_ns, 0);
    return false;
  }
  if (now_ns - window_began_ns_ >= kPackedWindowNs) {
    if (TakeWindow(now_ns) >= kGainToStay * unpacked_rate_) {
      poor_windows_ = 0;
      pause_ns_ = kStretchFirstNs;
    } else if (++poor_windows_ >= kPoorWindowsMax) {
      End(now_ns, pause_ns_);
      pause_ns_ = std::min(2 * pause_ns_, kStretchLastNs);
      stretch_ns_ = kStretchFirstNs;
      return false;
    }
  }
  if (now_ns - began_ns_ >= stretch_ns_) {
    End(now_ns, kMeasureNs);
    stretch_ns_ = std::min(2 * stretch_ns_, kStretchLastNs);
    return false;
  }
  return true;
}

void PackPolicy::End(int64_t now_ns, int64_t pause_ns) {
  packing_ = false;
  window_began_ns_ = peak_began_ns_ = now_ns;
  window_bytes_ = peak_bytes_ = 0;
  poor_windows_ = 0;
  paused_until_ns_ = now_ns + pause_ns;
}

uint64_t PackPolicy::RunBytes(uint64_t burst_bytes, uint64_t run_bytes_max) const {
  if (mode_ == Compression::kOff || (mode_ == Compression::kAuto && !packing_)) return burst_bytes;
  const auto times = static_cast<uint64_t>(1 / std::max(ratio_, 1e-3));
  return std::min(burst_bytes * std::bit_floor(std::max<uint64_t>(times, 1)), run_bytes_max);
}

}  // namespace faultline
