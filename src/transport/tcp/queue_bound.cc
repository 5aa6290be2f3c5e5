#include "transport/tcp/queue_bound.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace faultline {

void QueueBound::Note(const Sample& sample) {
  if (!begun_) {
    begun_ = true;
    last_ = sample;
    return;
  }
  was_full_ = was_full_ || sample.was_full;
  const int64_t lasted_ns = sample.now_ns - last_.now_ns;
  if (lasted_ns < kSampleNs) return;
  const double seen =
      static_cast<double>(sample.acked_bytes - last_.acked_bytes) / static_cast<double>(lasted_ns);
  last_ = sample;
  const double best = *std::max_element(rates_.begin(), rates_.end());
  // The link was waiting, not the sender: it may carry any amount more.
  if (!std::exchange(was_full_, false) && seen <= best) return;
  rates_[next_rate_] = seen;
  next_rate_ = (next_rate_ + 1) % rates_.size();
  if (sample.min_round_trip_ns > kRoundTripMaxNs) {
    buffer_bytes_ = 0;
    burst_bytes_ = kBurstBytesMax;
    return;
  }
  // The best of the last ones: a pause says nothing about the link.
  const double rate = *std::max_element(rates_.begin(), rates_.end());
  const double bytes = rate * static_cast<double>(sample.min_round_trip_ns +
                                                  std::max(kQueueNs, sample.min_round_trip_ns / 2));
  // Somebody else's queue makes the round trip longer and the rate lower: to give way without end
  // would leave the link to them.
  buffer_bytes_ = std::clamp(static_cast<uint64_t>(bytes),
                             std::max(kBufferBytesMin, most_bytes_ / 4), kBufferBytesMax);
  most_bytes_ = std::max(most_bytes_, buffer_bytes_);
  burst_bytes_ = std::clamp(std::bit_floor(buffer_bytes_ / 2), kBurstBytesMin, kBurstBytesMax);
}

}  // namespace faultline
