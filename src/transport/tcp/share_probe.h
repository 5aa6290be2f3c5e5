// How much more a lane has to queue to keep its share of a link that others have filled. Pure.
#ifndef FAULTLINE_TRANSPORT_TCP_SHARE_PROBE_H_
#define FAULTLINE_TRANSPORT_TCP_SHARE_PROBE_H_

#include <array>
#include <cstddef>
#include <cstdint>

namespace faultline {

// Behind somebody else's long queue a short one of our own brings next to nothing, and the page
// that a guest waits for is late whatever we do. The bound cannot tell that from a link that has
// become slow: both bring less. So where the link brings less than half of what it did, it is
// given twice as much, and again, as long as that helps; where it never helps, the link is slow.
// One thread.
class ShareProbe {
 public:
  // One sample of what a full lane gets, in bytes per nanosecond, every 5 ms; `bound_bytes` is what
  // may be queued when the link is ours alone. Returns what may be queued now, at least that.
  uint64_t Note(double rate, uint64_t bound_bytes);

 private:
  static constexpr int kStepSamples = 20;    // several round trips over queues of tens of ms
  static constexpr int kPauseSamples = 200;  // until it is tried again
  static constexpr double kHelped = 1.25;    // of what came before

  void Judge();

  std::array<double, 8> last_{};  // in a ring
  size_t count_ = 0;              // of samples
  double best_ = 0;               // the most that so many samples in a row brought on average
  uint64_t share_bytes_ = 0;      // 0: the link is ours, or slow
  bool trying_ = false;           // share_bytes_ has just been doubled
  bool helped_ = false;           // it did since the link was last ours
  double before_ = 0;             // what came before that
  double sum_ = 0;                // since then
  int samples_ = kPauseSamples;   // since then, or since the last try
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_TCP_SHARE_PROBE_H_
