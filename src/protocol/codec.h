// Bytes <-> messages: pure functions. Peer bytes are never trusted: every length, offset, count and
// enum is checked against its limit, and an error names the message and the field.
#ifndef FAULTLINE_PROTOCOL_CODEC_H_
#define FAULTLINE_PROTOCOL_CODEC_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "pages/page_digest.h"
#include "protocol/messages.h"

namespace faultline {

// A control message is a header {u16 type, u16 zero, u32 payload bytes} and its payload.
inline constexpr size_t kMessageHeaderBytes = 8;
inline constexpr size_t kMessagePayloadBytesMax = 1 << 20;
inline constexpr size_t kRangesPerMessageMax = 32768;
inline constexpr size_t kDeviceStateChunkBytesMax = 256 * 1024;
inline constexpr size_t kErrorTextBytesMax = 4096;
inline constexpr uint32_t kRoundMax = 1'000'000;  // of a migration

// The first message of a connection (Hello, and its answer) starts with kProtocolMagic in its
// payload, so that a stranger is recognised by its first bytes.

// Appends header and payload to `out`. Texts that are too long are cut; everything else must be
// within its limits.
void EncodeMessage(const Message& message, std::vector<std::byte>* out);

// What `bytes` begins with: the message and how many bytes it took; 0 bytes: more are needed.
struct DecodedMessage {
  size_t bytes_used = 0;
  Message message;
};
absl::StatusOr<DecodedMessage> DecodeMessage(std::span<const std::byte> bytes);

// Lane frames and the check sums behind them have a fixed size.
// {u32 region, u32 check sum or zero, u64 page}
inline constexpr size_t kPageRequestBytes = 16;
// {u16 kind, u16 algorithm, u32 region, u64 first page, u32 pages, u32 packed bytes}
inline constexpr size_t kPageFrameBytes = 24;
inline constexpr size_t kRemotePlaceBytes = 16;  // {u64 address, u32 key, u16 rail, u16 more}

// With `integrity` DigestOfRequest is part of it.
void EncodePageRequest(const PageRequest& request, std::span<std::byte, kPageRequestBytes> out,
                       bool integrity);
void EncodePageFrame(const PageFrame& frame, std::span<std::byte, kPageFrameBytes> out);

// As PageFrame says; kPageDigestBytes of them.
void EncodePageDigest(uint64_t digest, std::span<std::byte, kPageDigestBytes> out);
uint64_t DecodePageDigest(std::span<const std::byte, kPageDigestBytes> bytes);

void EncodeRemotePlace(const RemotePlace& place, std::span<std::byte, kRemotePlaceBytes> out);
RemotePlace DecodeRemotePlace(std::span<const std::byte, kRemotePlaceBytes> bytes);

// {u64 address, u32 key, u32 bytes, u16 rail, u16 slot}
inline constexpr size_t kWriteGrantBytes = 20;
// {u16 rail, u16 slot}
inline constexpr size_t kWrittenSlotBytes = 4;
void EncodeWriteGrant(const WriteGrant& grant, std::span<std::byte, kWriteGrantBytes> out);
WriteGrant DecodeWriteGrant(std::span<const std::byte, kWriteGrantBytes> bytes);
void EncodeWrittenSlot(const WrittenSlot& slot, std::span<std::byte, kWrittenSlotBytes> out);
WrittenSlot DecodeWrittenSlot(std::span<const std::byte, kWrittenSlotBytes> bytes);

// Which of the kinds that there are beside RDMA only are kinds here: none; kReadable, of runs of
// any length; all of them.
enum class RdmaFrames : uint8_t { kRefused, kReadable, kAccepted };

// The run must lie inside `layout`, and in a frame have at most `run_bytes_max` bytes (or be one
// page). A packed run's bytes are fewer than the run's; whether they unpack is not seen here.
// DataLoss: the check sum does not fit the request, which changed on its way.
absl::StatusOr<PageRequest> DecodePageRequest(std::span<const std::byte, kPageRequestBytes> bytes,
                                              const MemoryLayout& layout, bool integrity);
absl::StatusOr<PageFrame> DecodePageFrame(std::span<const std::byte, kPageFrameBytes> bytes,
                                          const MemoryLayout& layout, uint64_t run_bytes_max,
                                          RdmaFrames rdma = RdmaFrames::kRefused);

}  // namespace faultline

#endif  // FAULTLINE_PROTOCOL_CODEC_H_
