// How much a lane may have queued ahead of everything else that shares its link. Pure.
#ifndef FAULTLINE_TRANSPORT_TCP_QUEUE_BOUND_H_
#define FAULTLINE_TRANSPORT_TCP_QUEUE_BOUND_H_

#include <array>
#include <cstddef>
#include <cstdint>

namespace faultline {

// A page that somebody waits for stands in line behind what the bulk lane has sent and the link has
// not carried yet. So the lane's socket buffer is kept at what the link carries in one round trip
// and a quarter of a millisecond: enough that the link never runs dry while the sender is being
// woken, and no more. The rate is measured from what the peer acknowledges. One thread.
class QueueBound {
 public:
  // What the kernel's connection state says at one moment.
  struct Sample {
    int64_t now_ns = 0;        // any monotonic clock
    uint64_t acked_bytes = 0;  // since the connection began
    int64_t min_round_trip_ns = 0;
    bool was_full = false;  // the socket has taken less than it was given since the last sample
  };

  // Takes one sample in; they may come as often as they like.
  void Note(const Sample& sample);

  // The socket buffer to use; 0: the kernel's own choice is better (nothing is known yet, or the
  // peer is so far away that a fault costs more in round trips than in line).
  uint64_t buffer_bytes() const { return buffer_bytes_; }
  // The most to send in one go: up to half of it, a power of two from 16 to 256 KiB.
  uint64_t burst_bytes() const { return burst_bytes_; }

  static constexpr uint64_t kBurstBytesMax = 256 * 1024;
  static constexpr uint64_t kBufferBytesMax = 8 * 1024 * 1024;

 private:
  static constexpr int64_t kSampleNs = 5'000'000;
  static constexpr int64_t kQueueNs = 250'000;
  static constexpr int64_t kRoundTripMaxNs = 2'000'000;
  static constexpr uint64_t kBufferBytesMin = 32 * 1024;
  static constexpr uint64_t kBurstBytesMin = 16 * 1024;

  Sample last_;
  bool begun_ = false;
  bool was_full_ = false;          // since last_
  std::array<double, 8> rates_{};  // bytes per nanosecond; the last ones, in a ring
  size_t next_rate_ = 0;
  uint64_t buffer_bytes_ = 0;
  uint64_t most_bytes_ = 0;  // that buffer_bytes_ ever was
  uint64_t burst_bytes_ = kBurstBytesMax;
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_TCP_QUEUE_BOUND_H_
