// Where a run of pages is zero. Pure.
#ifndef FAULTLINE_TRANSPORT_TCP_ZERO_STRETCHES_H_
#define FAULTLINE_TRANSPORT_TCP_ZERO_STRETCHES_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace faultline {

// Pages that go into one frame.
struct Stretch {
  uint64_t pages = 0;
  bool is_zero = false;
};

// Fewer zero pages than this between others are not worth a frame and a system call of their own,
// if they are small ones.
inline constexpr size_t kZeroStretchBytesMin = 16 * 1024;

// What `bytes`, whole pages and at least one, begin with: the longest stretch that is all zero, or
// the one up to the next such stretch.
Stretch FirstStretch(std::span<const std::byte> bytes, size_t page_bytes);

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_TCP_ZERO_STRETCHES_H_
