#include "transport/tcp/pack_policy.h"

#include <algorithm>
#include <bit>

namespace faultline {

PackPolicy::PackPolicy(Compression mode) : mode_(mode) {
  if (mode == Compression::kLz4) packing_ = PackAlgorithm::kLz4;
  if (mode == Compression::kZstd) packing_ = PackAlgorithm::kZstd;
}

PackAlgorithm PackPolicy::WantsSample(int64_t now_ns) const {
  if (mode_ != Compression::kAuto || packing_ != PackAlgorithm::kNone) return PackAlgorithm::kNone;
  const int samples = std::min(lz4_.samples, zstd_.samples);
  const bool due = lz4_.samples == 0 ||
                   now_ns - sampled_ns_ >= (samples < kSamplesMin ? kFirstSampleNs : kSampleNs);
  if (!due) return PackAlgorithm::kNone;
  return packed_last_ == PackAlgorithm::kLz4 ? PackAlgorithm::kZstd : PackAlgorithm::kLz4;
}

void PackPolicy::NotePacking(int64_t now_ns, PackAlgorithm algorithm, uint64_t in_bytes,
                             uint64_t out_bytes, int64_t spent_ns) {
  Packing& packing = Of(algorithm);
  const double ratio = static_cast<double>(out_bytes) / static_cast<double>(in_bytes);
  const double ns_per_byte = static_cast<double>(spent_ns) / static_cast<double>(in_bytes);
  const double weight = packing.samples == 0 ? 1 : kWeight;
  packing.ratio += weight * (ratio - packing.ratio);
  packing.ns_per_byte += weight * (ns_per_byte - packing.ns_per_byte);
  ++packing.samples;
  packed_last_ = algorithm;
  sampled_ns_ = now_ns;
}

// While the link makes the lane wait, packing costs no time of its own: the slower of the two sets
// the pace.
double PackPolicy::PredictedGain(const Packing& packing) const {
  const double link_rate =
      std::max(unpacked_rate_, *std::max_element(peaks_.begin(), peaks_.end()));
  const double packer = kPackerShare / std::max(packing.ns_per_byte * link_rate, 1e-9);
  return std::min(packer, 1 / std::max(packing.ratio, 1e-3));
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

PackAlgorithm PackPolicy::Choose(int64_t now_ns) {
  if (mode_ != Compression::kAuto) return packing_;
  if (window_began_ns_ < 0) window_began_ns_ = peak_began_ns_ = now_ns;
  if (packing_ == PackAlgorithm::kNone) {
    ConsiderBeginning(now_ns);
  } else {
    ConsiderEnding(now_ns);
  }
  return packing_;
}

void PackPolicy::ConsiderBeginning(int64_t now_ns) {
  NotePeak(now_ns);
  if (now_ns - window_began_ns_ >= kUnpackedWindowNs) unpacked_rate_ = TakeWindow(now_ns);
  if (std::min(lz4_.samples, zstd_.samples) < kSamplesMin) return;
  if (unpacked_rate_ <= 0 || now_ns < paused_until_ns_) return;
  const double lz4_gain = PredictedGain(lz4_);
  const double zstd_gain = PredictedGain(zstd_);
  if (std::max(lz4_gain, zstd_gain) < kGainToBegin) return;
  packing_ = zstd_gain > kGainOfZstd * lz4_gain ? PackAlgorithm::kZstd : PackAlgorithm::kLz4;
  began_ns_ = window_began_ns_ = now_ns;
  window_bytes_ = 0;
}

void PackPolicy::ConsiderEnding(int64_t now_ns) {
  // Other memory than before; what follows is sampled again.
  if (Of(packing_).ratio * kGainToStay > 1) return End(now_ns, 0);
  if (now_ns - window_began_ns_ >= kPackedWindowNs) {
    if (TakeWindow(now_ns) >= kGainToStay * unpacked_rate_) {
      poor_windows_ = 0;
      pause_ns_ = kPauseFirstNs;
    } else if (++poor_windows_ >= kPoorWindowsMax) {
      End(now_ns, pause_ns_);
      pause_ns_ = std::min(2 * pause_ns_, kStretchLastNs);
      stretch_ns_ = kStretchFirstNs;
      return;
    }
  }
  if (now_ns - began_ns_ >= stretch_ns_) {
    End(now_ns, kMeasureNs);
    stretch_ns_ = std::min(2 * stretch_ns_, kStretchLastNs);
  }
}

void PackPolicy::End(int64_t now_ns, int64_t pause_ns) {
  packing_ = PackAlgorithm::kNone;
  window_began_ns_ = peak_began_ns_ = now_ns;
  window_bytes_ = peak_bytes_ = 0;
  poor_windows_ = 0;
  paused_until_ns_ = now_ns + pause_ns;
}

uint64_t PackPolicy::RunBytes(uint64_t burst_bytes, uint64_t run_bytes_max) const {
  if (packing_ == PackAlgorithm::kNone) return burst_bytes;
  const double ratio = packing_ == PackAlgorithm::kZstd ? zstd_.ratio : lz4_.ratio;
  const auto times = static_cast<uint64_t>(1 / std::max(ratio, 1e-3));
  return std::min(burst_bytes * std::bit_floor(std::max<uint64_t>(times, 1)), run_bytes_max);
}

}  // namespace faultline
