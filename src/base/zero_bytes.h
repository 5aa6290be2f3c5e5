// Whether memory holds nothing but zeros.
#ifndef FAULTLINE_BASE_ZERO_BYTES_H_
#define FAULTLINE_BASE_ZERO_BYTES_H_

#include <cstddef>
#include <cstring>
#include <span>

namespace faultline {

// True for no bytes at all. Most memory that is not zero says so in its first byte; the rest is
// compared with itself, one byte further on, with the C library's vector instructions.
inline bool IsZero(std::span<const std::byte> bytes) {
  return bytes.empty() || (bytes[0] == std::byte{0} &&
                           std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

}  // namespace faultline

#endif  // FAULTLINE_BASE_ZERO_BYTES_H_
