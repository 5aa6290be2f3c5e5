// A bounded queue from one thread to another, without locks, waits or allocation.
#ifndef FAULTLINE_BASE_SPSC_RING_H_
#define FAULTLINE_BASE_SPSC_RING_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <optional>

namespace faultline {

// Thread safety: one thread pushes, one pops; both at any time.
template <typename T, size_t kCapacity>
class SpscRing {
  static_assert((kCapacity & (kCapacity - 1)) == 0, "the capacity is a power of two");

 public:
  // False: it is full.
  bool TryPush(const T& value) {
    const size_t end = end_.load(std::memory_order_relaxed);
    if (end - begin_.load(std::memory_order_acquire) == kCapacity) return false;
    slots_[end % kCapacity] = value;
    end_.store(end + 1, std::memory_order_release);
    return true;
  }

  // The oldest one; none if it is empty.
  std::optional<T> TryPop() {
    const size_t begin = begin_.load(std::memory_order_relaxed);
    if (begin == end_.load(std::memory_order_acquire)) return std::nullopt;
    T value = slots_[begin % kCapacity];
    begin_.store(begin + 1, std::memory_order_release);
    return value;
  }

 private:
  // Each on a cache line of its own: the two threads do not slow each other down.
  alignas(64) std::atomic<size_t> begin_{0};  // popping thread
  alignas(64) std::atomic<size_t> end_{0};    // pushing thread
  alignas(64) std::array<T, kCapacity> slots_{};
};

}  // namespace faultline

#endif  // FAULTLINE_BASE_SPSC_RING_H_
