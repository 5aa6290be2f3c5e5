// A memory mapping that unmaps itself.
#ifndef FAULTLINE_MEMORY_MAPPING_H_
#define FAULTLINE_MEMORY_MAPPING_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "base/status.h"

namespace faultline {

class Mapping {
 public:
  Mapping() = default;
  ~Mapping() { Reset(); }
  Mapping(Mapping&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  Mapping& operator=(Mapping&& other) noexcept {
    if (this != &other) {
      Reset();
      bytes_ = std::exchange(other.bytes_, {});
    }
    return *this;
  }

  // Maps `size_bytes` of `file` shared. The error names `what`.
  static absl::StatusOr<Mapping> MapFile(int file, uint64_t offset_bytes, size_t size_bytes,
                                         bool writable, const char* what);
  // Private zeros to read; takes no memory.
  static absl::StatusOr<Mapping> MapZeros(size_t size_bytes);

  std::span<std::byte> bytes() const { return bytes_; }
  uint64_t address() const { return reinterpret_cast<uint64_t>(bytes_.data()); }

 private:
  explicit Mapping(std::span<std::byte> bytes) : bytes_(bytes) {}
  void Reset();

  std::span<std::byte> bytes_;
};

}  // namespace faultline

#endif  // FAULTLINE_MEMORY_MAPPING_H_
