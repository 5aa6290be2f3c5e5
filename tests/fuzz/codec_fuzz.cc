// Fuzz target: peer bytes into the codec. What decodes must encode, and come back the same.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/check.h"
#include "protocol/codec.h"
#include "protocol/handshake.h"

namespace faultline {
namespace {

constexpr uint64_t kRunBytesMax = 256 * 1024;

void CheckMessages(std::span<const std::byte> bytes) {
  if (bytes.size() >= kMessageHeaderBytes) {
    auto greeting = GreetingBytes(bytes.first<kMessageHeaderBytes>());
    FAULTLINE_CHECK(!greeting.ok() || *greeting <= 2 * kErrorTextBytesMax);
  }
  while (true) {
    auto decoded = DecodeMessage(bytes);
    if (!decoded.ok() || decoded->bytes_used == 0) return;
    FAULTLINE_CHECK(decoded->bytes_used <= bytes.size());
    bytes = bytes.subspan(decoded->bytes_used);
    std::vector<std::byte> encoded;
    EncodeMessage(decoded->message, &encoded);
    auto again = DecodeMessage(encoded);
    FAULTLINE_CHECK(again.ok() && again->bytes_used == encoded.size());
    FAULTLINE_CHECK(again->message == decoded->message);
  }
}

void CheckFrames(std::span<const std::byte> bytes, const MemoryLayout& layout) {
  if (bytes.size() >= kPageRequestBytes) {
    for (bool integrity : {false, true}) {
      auto request = DecodePageRequest(bytes.first<kPageRequestBytes>(), layout, integrity);
      FAULTLINE_CHECK(!request.ok() ||
                      request->page.index < layout[request->page.region].page_count());
    }
  }
  if (bytes.size() >= kPageFrameBytes) {
    auto frame = DecodePageFrame(bytes.first<kPageFrameBytes>(), layout, kRunBytesMax);
    auto beside_rdma = DecodePageFrame(bytes.first<kPageFrameBytes>(), layout, kRunBytesMax,
                                       RdmaFrames::kAccepted);
    FAULTLINE_CHECK(!frame.ok() || (beside_rdma.ok() && *beside_rdma == *frame));
    FAULTLINE_CHECK(frame.ok() || !beside_rdma.ok() ||
                    beside_rdma->kind >= PageFrameKind::kReadable);
    if (!frame.ok()) frame = beside_rdma;
    if (!frame.ok() || !HasPages(frame->kind)) return;
    const RegionLayout& region = layout[frame->run.region];
    FAULTLINE_CHECK(frame->run.end() <= region.page_count());
    FAULTLINE_CHECK(frame->packed_bytes < frame->run.count * region.page_size_bytes);
    FAULTLINE_CHECK((frame->packed_bytes != 0) == (frame->kind == PageFrameKind::kPacked));
    std::array<std::byte, kPageFrameBytes> encoded;
    EncodePageFrame(*frame, encoded);
    FAULTLINE_CHECK(std::ranges::equal(encoded, bytes.first<kPageFrameBytes>()));
  }
}

}  // namespace
}  // namespace faultline

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto bytes = std::as_bytes(std::span(data, size));
  faultline::CheckMessages(bytes);
  faultline::CheckFrames(bytes, {{"ram", 0x40000000, 0x1000}, {"huge", 0x600000, 0x200000}});
  return 0;
}
