#include "protocol/codec.h"

#include <fmt/format.h>

#include <array>
#include <utility>

#include "base/check.h"
#include "protocol/message_fields.h"
#include "protocol/wire_bytes.h"

namespace faultline {
namespace {

constexpr size_t kMessageTypes = std::variant_size_v<Message>;

constexpr std::array<const char*, kMessageTypes> kNames = {
    "Hello",           "Welcome",          "PeerError",
    "Offer",           "Accepted",         "Frozen",
    "AllocatedRanges", "AllocationMapEnd", "DeviceState",
    "DeviceStateEnd",  "Loaded",           "Commit",
    "Running",         "Progress",         "Completed",
    "Goodbye",         "Heartbeat",        "Ready",
    "StillMissing",    "StillMissingEnd",  "PackedDeviceState",
    "Mismatch",        "RoundReceived",    "StillDirty",
    "StillDirtyEnd"};

// The most payload bytes that make sense for a type; a header that promises more is refused before
// anything is buffered for it. kHandshakeBytesMax leaves later versions room to add fields.
constexpr uint32_t kHandshakeBytesMax = 1024;
constexpr uint32_t kTextMessageBytesMax = kErrorTextBytesMax + 64;
constexpr uint32_t kSmallBytesMax = 64;
constexpr std::array<uint32_t, kMessageTypes> kPayloadBytesMax = {
    kHandshakeBytesMax,      kHandshakeBytesMax,   kTextMessageBytesMax,
    kMessagePayloadBytesMax, kTextMessageBytesMax, kMessagePayloadBytesMax,
    kMessagePayloadBytesMax, kSmallBytesMax,       kDeviceStateChunkBytesMax,
    kSmallBytesMax,          kSmallBytesMax,       kSmallBytesMax,
    kSmallBytesMax,          kSmallBytesMax,       kSmallBytesMax,
    kSmallBytesMax,          kSmallBytesMax,       kSmallBytesMax,
    kMessagePayloadBytesMax, kSmallBytesMax,       kDeviceStateChunkBytesMax,
    kSmallBytesMax,          kSmallBytesMax,       kMessagePayloadBytesMax,
    kSmallBytesMax};

// A message that is added to the variant is added here too.
static_assert(kNames.back() != nullptr && kPayloadBytesMax.back() != 0);

}  // namespace

const char* MessageName(const Message& message) { return kNames[message.index()]; }

void EncodeMessage(const Message& message, std::vector<std::byte>* out) {
  size_t header_at = out->size();
  WireWriter writer(out);
  writer.U16(static_cast<uint16_t>(message.index() + 1));
  writer.U16(0);
  writer.U32(0);
  WriteFields(message, writer);
  size_t payload_bytes = out->size() - header_at - kMessageHeaderBytes;
  FAULTLINE_CHECK(payload_bytes <= kPayloadBytesMax[message.index()]);
  StoreLittleEndian(payload_bytes, std::span(*out).subspan(header_at + 4, 4));
}

absl::StatusOr<DecodedMessage> DecodeMessage(std::span<const std::byte> bytes) {
  if (bytes.size() < kMessageHeaderBytes) return DecodedMessage{};
  uint64_t type = LoadLittleEndian(bytes.first(2));
  uint64_t reserved = LoadLittleEndian(bytes.subspan(2, 2));
  uint64_t payload_bytes = LoadLittleEndian(bytes.subspan(4, 4));
  if (type == 0 || type > kMessageTypes) {
    return absl::InvalidArgumentError(
        fmt::format("bad message from the peer: field 'type' is {}, which is no message (1 to {})",
                    type, kMessageTypes));
  }
  size_t index = type - 1;
  if (reserved != 0) {
    return absl::InvalidArgumentError(
        fmt::format("bad {} message from the peer: field 'reserved' of its header is {}, it must "
                    "be 0",
                    kNames[index], reserved));
  }
  if (payload_bytes > kPayloadBytesMax[index]) {
    return absl::InvalidArgumentError(
        fmt::format("bad {} message from the peer: field 'payload bytes' is {}, at most {} are "
                    "allowed",
                    kNames[index], payload_bytes, kPayloadBytesMax[index]));
  }
  size_t bytes_used = kMessageHeaderBytes + payload_bytes;
  if (bytes.size() < bytes_used) return DecodedMessage{};
  ASSIGN_OR_RETURN(Message message, ReadFields(index, kNames[index],
                                               bytes.subspan(kMessageHeaderBytes, payload_bytes)));
  return DecodedMessage{bytes_used, std::move(message)};
}

}  // namespace faultline
