// Takes a fuzz target's input apart: numbers from its front, the rest as bytes.
#ifndef FAULTLINE_TESTS_FUZZ_FUZZ_INPUT_H_
#define FAULTLINE_TESTS_FUZZ_FUZZ_INPUT_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace faultline {

// Zeros where the input is at its end.
class FuzzInput {
 public:
  FuzzInput(const uint8_t* data, size_t size) : left_(data, size) {}

  bool empty() const { return left_.empty(); }
  uint8_t U8() { return static_cast<uint8_t>(Number(1)); }
  uint16_t U16() { return static_cast<uint16_t>(Number(2)); }
  uint64_t U64() { return Number(8); }
  // At most `count` bytes.
  std::span<const uint8_t> Bytes(size_t count) {
    const std::span<const uint8_t> taken = left_.first(std::min(count, left_.size()));
    left_ = left_.subspan(taken.size());
    return taken;
  }
  std::span<const uint8_t> Rest() { return Bytes(left_.size()); }
  std::string RestAsText() { return TextOf(Rest()); }
  // Up to the next `end`, which is dropped.
  std::string TextUpTo(uint8_t end) {
    const auto found = std::find(left_.begin(), left_.end(), end);
    std::string text = TextOf(Bytes(static_cast<size_t>(found - left_.begin())));
    Bytes(1);
    return text;
  }

 private:
  static std::string TextOf(std::span<const uint8_t> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  // Little-endian, as the protocols are.
  uint64_t Number(size_t count) {
    uint64_t number = 0;
    int shift = 0;
    for (uint8_t byte : Bytes(count)) {
      number |= uint64_t{byte} << shift;
      shift += 8;
    }
    return number;
  }

  std::span<const uint8_t> left_;
};

}  // namespace faultline

#endif  // FAULTLINE_TESTS_FUZZ_FUZZ_INPUT_H_
