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

// Packing and sending go on side by side (the socket's buffer is being emptied meanwhile), so the
// slower of the two sets the pace.
double PackPolicy::PredictedGain(double link_rate) const {
  const double packer = 1 / std::max(ns_per_byte_ * link_rate, 1e-9);
  return std::min(packer, 1 / std::max(ratio_, 1e-3));
}

bool PackPolicy::ShouldPack(int64_t now_ns, double link_rate) {
  if (mode_ != Compression::kAuto) return mode_ == Compression::kLz4;
  if (!packing_) {
    if (samples_ < kSamplesMin || link_rate <= 0 || now_ns < paused_until_ns_) return false;
    if (PredictedGain(link_rate) < kGainToBegin) return false;
    packing_ = true;
    began_ns_ = window_began_ns_ = now_ns;
    unpacked_rate_ = link_rate;
    window_bytes_ = 0;
    return true;
  }
  // Other memory than before; what follows is sampled again.
  if (ratio_ * kGainToStay > 1) {
    End(now_ns, 0);
    return false;
  }
  if (const int64_t lasted_ns = now_ns - window_began_ns_; lasted_ns >= kWindowNs) {
    const double rate = static_cast<double>(window_bytes_) / static_cast<double>(lasted_ns);
    if (rate < kGainToStay * unpacked_rate_) {
      End(now_ns, pause_ns_);
      pause_ns_ = std::min(2 * pause_ns_, kStretchLastNs);
      stretch_ns_ = kStretchFirstNs;
      return false;
    }
    pause_ns_ = kStretchFirstNs;
    window_began_ns_ = now_ns;
    window_bytes_ = 0;
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
  paused_until_ns_ = now_ns + pause_ns;
}

uint64_t PackPolicy::RunBytes(uint64_t burst_bytes, uint64_t run_bytes_max) const {
  if (mode_ == Compression::kOff || (mode_ == Compression::kAuto && !packing_)) return burst_bytes;
  const auto times = static_cast<uint64_t>(1 / std::max(ratio_, 1e-3));
  return std::min(burst_bytes * std::bit_floor(std::max<uint64_t>(times, 1)), run_bytes_max);
}

}  // namespace faultline
