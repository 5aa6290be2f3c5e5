#include "protocol/wire_bytes.h"

#include <fmt/format.h>

namespace faultline {

uint64_t LoadLittleEndian(std::span<const std::byte> bytes) {
  uint64_t value = 0;
  for (size_t i = bytes.size(); i > 0; --i) {
    value = (value << 8) | static_cast<uint64_t>(bytes[i - 1]);
  }
  return value;
}

void StoreLittleEndian(uint64_t value, std::span<std::byte> out) {
  for (std::byte& byte : out) {
    byte = static_cast<std::byte>(value);
    value >>= 8;
  }
}

std::span<const std::byte> WireReader::Bytes(const char* field, size_t count) {
  if (!ok()) return {};
  if (bytes_.size() < count) {
    Fail(field, fmt::format("needs {} bytes, and the message has {} left", count, bytes_.size()));
    return {};
  }
  std::span<const std::byte> taken = bytes_.first(count);
  bytes_ = bytes_.subspan(count);
  return taken;
}

uint64_t WireReader::Unsigned(const char* field, size_t count) {
  uint64_t value = 0;
  int shift = 0;
  for (std::byte byte : Bytes(field, count)) {
    value |= static_cast<uint64_t>(byte) << shift;
    shift += 8;
  }
  return value;
}

std::array<uint8_t, 16> WireReader::Id(const char* field) {
  std::array<uint8_t, 16> id{};
  size_t at = 0;
  for (std::byte byte : Bytes(field, id.size())) id[at++] = static_cast<uint8_t>(byte);
  return id;
}

void WireReader::Fail(const char* field, std::string_view why) {
  if (!ok()) return;
  status_ = absl::InvalidArgumentError(
      fmt::format("bad {} message from the peer: field '{}' {}", message_, field, why));
  bytes_ = {};
}

absl::Status WireReader::Finish() {
  if (ok() && !bytes_.empty()) {
    Fail("payload bytes", fmt::format("counts {} bytes too many", bytes_.size()));
  }
  return status_;
}

}  // namespace faultline
