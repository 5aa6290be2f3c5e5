// How much memory is read together with a page that the guest has touched.
#ifndef FAULTLINE_ENGINE_READ_AROUND_H_
#define FAULTLINE_ENGINE_READ_AROUND_H_

#include <algorithm>
#include <bit>
#include <cstdint>

namespace faultline {

// A fault costs both hosts some tens of microseconds of processor time, most of it wake-ups; its
// neighbors, asked for in the same message, cost little more than their transfer. So a fault brings
// as many of them as the link carries within kExtraNs. What the bulk lane brings tells the link's
// speed: where it is slow, or not known yet, the page comes alone.
//
// On a slow link the same figure says what the push is just bringing (PushFront), and how long that
// takes: a page of that is not asked for, it would only come twice.
//
// Pure; one thread.
class ReadAround {
 public:
  static constexpr int64_t kExtraNs = 30'000;
  static constexpr uint64_t kBytesMax = 64 * 1024;
  static constexpr int64_t kWindowNs = 5'000'000;
  // What a bulk lane has on its way at a time (queue_bound.h), and the least of it.
  static constexpr int64_t kOnTheWayNs = 500'000;
  static constexpr uint64_t kOnTheWayBytesMin = 32 * 1024;
  static constexpr int64_t kAwaitNsMax = 10'000'000;

  // Goes by the link.
  static ReadAround Automatic() { return ReadAround(true, true, 0); }
  // As if the link carried so much, whatever the bulk lane brings.
  static ReadAround OnLink(uint64_t bytes_per_second) {
    return ReadAround(false, true, static_cast<double>(bytes_per_second) * kExtraNs / 1e9);
  }
  // Always `bytes`; 0: the page alone. No page is waited for instead of asked for.
  static ReadAround Always(uint64_t bytes) {
    return ReadAround(false, false, static_cast<double>(bytes));
  }

  // The bulk lane has brought `pushed_bytes` up to now, a count that never falls.
  void Note(int64_t now_ns, uint64_t pushed_bytes) {
    if (!measures_) return;
    const int64_t passed_ns = now_ns - window_begin_ns_;
    if (passed_ns < kWindowNs) return;
    const double share = static_cast<double>(kExtraNs) / static_cast<double>(passed_ns);
    const double extra_bytes = static_cast<double>(pushed_bytes - window_begin_bytes_) * share;
    // A busy processor makes single windows too long or too short.
    extra_bytes_ = (extra_bytes_ + extra_bytes) / 2;
    window_begin_ns_ = now_ns;
    window_begin_bytes_ = pushed_bytes;
  }

  // The length, in pages of `page_bytes`, of the aligned block that is read with a touched page: a
  // power of two; 1: the page alone.
  uint64_t BlockPages(uint64_t page_bytes) const {
    const uint64_t bytes = std::min(kBytesMax, static_cast<uint64_t>(extra_bytes_));
    return std::bit_floor(std::max<uint64_t>(1, bytes / page_bytes));
  }

  // How many pages are on their way beyond the push's front; 0: to ask is quicker than to wait.
  uint64_t OnTheWayPages(uint64_t page_bytes) const {
    return is_slow() ? OnTheWayBytes() / page_bytes : 0;
  }
  // On a slow link: how long it takes to carry so much.
  int64_t CarryNs(uint64_t bytes) const {
    return static_cast<int64_t>(static_cast<double>(bytes) * kExtraNs / extra_bytes_);
  }
  // By when what is on its way has come if it does come: in twice its time.
  int64_t AwaitNs() const { return std::min(kAwaitNsMax, 2 * CarryNs(OnTheWayBytes())); }

 private:
  // Less than this in kExtraNs and a touched page comes alone; less than that and nothing comes.
  static constexpr double kSlowBytes = 8 * 1024;
  static constexpr double kStandsBytes = 32;

  ReadAround(bool measures, bool awaits, double extra_bytes)
      : measures_(measures), awaits_(awaits), extra_bytes_(extra_bytes) {}

  bool is_slow() const {
    return awaits_ && extra_bytes_ < kSlowBytes && extra_bytes_ > kStandsBytes;
  }
  uint64_t OnTheWayBytes() const {
    const double bytes = extra_bytes_ * kOnTheWayNs / kExtraNs;
    return std::max(kOnTheWayBytesMin, static_cast<uint64_t>(bytes));
  }

  bool measures_;
  bool awaits_;
  int64_t window_begin_ns_ = 0;
  uint64_t window_begin_bytes_ = 0;
  double extra_bytes_;  // what the link carries within kExtraNs
};

}  // namespace faultline

#endif  // FAULTLINE_ENGINE_READ_AROUND_H_
