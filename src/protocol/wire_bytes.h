// Little-endian fields, written and read one by one. Internal to the codec.
#ifndef FAULTLINE_PROTOCOL_WIRE_BYTES_H_
#define FAULTLINE_PROTOCOL_WIRE_BYTES_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace faultline {

// All of `bytes` (at most 8) as one little-endian number, and back.
uint64_t LoadLittleEndian(std::span<const std::byte> bytes);
void StoreLittleEndian(uint64_t value, std::span<std::byte> out);

// Appends fields to a vector.
class WireWriter {
 public:
  explicit WireWriter(std::vector<std::byte>* out) : out_(out) {}

  void U8(uint8_t value) { Unsigned(value, 1); }
  void U16(uint16_t value) { Unsigned(value, 2); }
  void U32(uint32_t value) { Unsigned(value, 4); }
  void U64(uint64_t value) { Unsigned(value, 8); }
  void Bytes(std::span<const std::byte> bytes) {
    out_->insert(out_->end(), bytes.begin(), bytes.end());
  }
  void Id(const std::array<uint8_t, 16>& id) { Bytes(std::as_bytes(std::span(id))); }

 private:
  void Unsigned(uint64_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) out_->push_back(static_cast<std::byte>(value >> (8 * i)));
  }

  std::vector<std::byte>* out_;
};

// Takes fields from a message's payload. The first thing that does not fit fixes `status`, which
// names the message and the field; from then on every field reads as zero.
class WireReader {
 public:
  WireReader(const char* message, std::span<const std::byte> bytes)
      : message_(message), bytes_(bytes) {}

  uint8_t U8(const char* field) { return static_cast<uint8_t>(Unsigned(field, 1)); }
  uint16_t U16(const char* field) { return static_cast<uint16_t>(Unsigned(field, 2)); }
  uint32_t U32(const char* field) { return static_cast<uint32_t>(Unsigned(field, 4)); }
  uint64_t U64(const char* field) { return Unsigned(field, 8); }
  std::array<uint8_t, 16> Id(const char* field);
  // Exactly `count` bytes; empty after a failure.
  std::span<const std::byte> Bytes(const char* field, size_t count);

  // Makes the message bad because of `field`, unless it is already.
  void Fail(const char* field, std::string_view why);

  bool ok() const { return status_.ok(); }
  size_t bytes_left() const { return bytes_.size(); }
  // Also fails if something is left over.
  absl::Status Finish();

 private:
  uint64_t Unsigned(const char* field, size_t count);

  const char* message_;
  std::span<const std::byte> bytes_;
  absl::Status status_;
};

}  // namespace faultline

#endif  // FAULTLINE_PROTOCOL_WIRE_BYTES_H_
