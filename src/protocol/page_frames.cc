// The lanes' part of the codec.
#include <fmt/format.h>

#include <limits>

#include "base/check.h"
#include "pages/page_digest.h"
#include "protocol/codec.h"
#include "protocol/wire_bytes.h"

namespace faultline {
namespace {

// What packing adds to a frame, given how many bytes the run has.
absl::Status CheckPacking(const PageFrame& frame, uint64_t run_bytes) {
  const bool packed = frame.kind == PageFrameKind::kPacked;
  const auto algorithm = static_cast<uint16_t>(frame.algorithm);
  const bool known =
      frame.algorithm == PackAlgorithm::kLz4 || frame.algorithm == PackAlgorithm::kZstd;
  if (packed ? !known : frame.algorithm != PackAlgorithm::kNone) {
    return absl::InvalidArgumentError(fmt::format(
        "bad page frame from the peer: field 'algorithm' is {}, {}", algorithm,
        packed ? "a packed run has 1 (lz4) or 2 (zstd)" : "a run that is not packed has 0"));
  }
  if (packed != (frame.packed_bytes != 0) || (packed && frame.packed_bytes >= run_bytes)) {
    return absl::InvalidArgumentError(fmt::format(
        "bad page frame from the peer: field 'packed bytes' is {}, {}", frame.packed_bytes,
        packed ? fmt::format("this run of {} bytes packs into 1 to {}", run_bytes, run_bytes - 1)
               : "a run that is not packed has 0"));
  }
  return absl::OkStatus();
}

PageFrameKind LastKind(RdmaFrames rdma) {
  if (rdma == RdmaFrames::kAccepted) return PageFrameKind::kWritten;
  return rdma == RdmaFrames::kReadable ? PageFrameKind::kReadable : PageFrameKind::kRoundEnd;
}

// A frame that is about no pages names none. A mark's first page is its round, or a rail.
absl::StatusOr<PageFrame> CheckMark(const PageFrame& frame) {
  RETURN_IF_ERROR(CheckPacking(frame, 0));
  const bool is_last = frame.kind == PageFrameKind::kFinished;
  const bool is_rail = frame.kind == PageFrameKind::kGrantsWanted;
  if (frame.run.region != 0 || frame.run.count != 0 || (is_last && frame.run.first != 0)) {
    return absl::InvalidArgumentError(
        fmt::format("bad page frame from the peer: field 'pages' of the {} frame is not empty",
                    is_last ? "last" : (is_rail ? "rail's" : "round's")));
  }
  if (!is_last && !is_rail && (frame.run.first == 0 || frame.run.first > kRoundMax)) {
    return absl::InvalidArgumentError(
        fmt::format("bad page frame from the peer: field 'round' is {}, it must be 1 to {}",
                    frame.run.first, kRoundMax));
  }
  return frame;
}

}  // namespace

void EncodePageRequest(const PageRequest& request, std::span<std::byte, kPageRequestBytes> out,
                       bool integrity) {
  StoreLittleEndian(request.page.region, out.subspan(0, 4));
  StoreLittleEndian(integrity ? DigestOfRequest(request.page) : 0, out.subspan(4, 4));
  StoreLittleEndian(request.page.index, out.subspan(8, 8));
}

void EncodePageFrame(const PageFrame& frame, std::span<std::byte, kPageFrameBytes> out) {
  FAULTLINE_CHECK(frame.run.count <= std::numeric_limits<uint32_t>::max());
  StoreLittleEndian(static_cast<uint16_t>(frame.kind), out.subspan(0, 2));
  StoreLittleEndian(static_cast<uint16_t>(frame.algorithm), out.subspan(2, 2));
  StoreLittleEndian(frame.run.region, out.subspan(4, 4));
  StoreLittleEndian(frame.run.first, out.subspan(8, 8));
  StoreLittleEndian(frame.run.count, out.subspan(16, 4));
  StoreLittleEndian(frame.packed_bytes, out.subspan(20, 4));
}

void EncodePageDigest(uint64_t digest, std::span<std::byte, kPageDigestBytes> out) {
  StoreLittleEndian(digest, out);
}

uint64_t DecodePageDigest(std::span<const std::byte, kPageDigestBytes> bytes) {
  return LoadLittleEndian(bytes);
}

void EncodeRemotePlace(const RemotePlace& place, std::span<std::byte, kRemotePlaceBytes> out) {
  StoreLittleEndian(place.address, out.subspan(0, 8));
  StoreLittleEndian(place.key, out.subspan(8, 4));
  StoreLittleEndian(place.rail, out.subspan(12, 2));
  StoreLittleEndian(place.more, out.subspan(14, 2));
}

RemotePlace DecodeRemotePlace(std::span<const std::byte, kRemotePlaceBytes> bytes) {
  return {LoadLittleEndian(bytes.subspan(0, 8)),
          static_cast<uint32_t>(LoadLittleEndian(bytes.subspan(8, 4))),
          static_cast<uint16_t>(LoadLittleEndian(bytes.subspan(12, 2))),
          static_cast<uint16_t>(LoadLittleEndian(bytes.subspan(14, 2)))};
}

void EncodeWriteGrant(const WriteGrant& grant, std::span<std::byte, kWriteGrantBytes> out) {
  StoreLittleEndian(grant.address, out.subspan(0, 8));
  StoreLittleEndian(grant.key, out.subspan(8, 4));
  StoreLittleEndian(grant.bytes, out.subspan(12, 4));
  StoreLittleEndian(grant.rail, out.subspan(16, 2));
  StoreLittleEndian(grant.slot, out.subspan(18, 2));
}

WriteGrant DecodeWriteGrant(std::span<const std::byte, kWriteGrantBytes> bytes) {
  return {LoadLittleEndian(bytes.subspan(0, 8)),
          static_cast<uint32_t>(LoadLittleEndian(bytes.subspan(8, 4))),
          static_cast<uint32_t>(LoadLittleEndian(bytes.subspan(12, 4))),
          static_cast<uint16_t>(LoadLittleEndian(bytes.subspan(16, 2))),
          static_cast<uint16_t>(LoadLittleEndian(bytes.subspan(18, 2)))};
}

void EncodeWrittenSlot(const WrittenSlot& slot, std::span<std::byte, kWrittenSlotBytes> out) {
  StoreLittleEndian(slot.rail, out.subspan(0, 2));
  StoreLittleEndian(slot.slot, out.subspan(2, 2));
}

WrittenSlot DecodeWrittenSlot(std::span<const std::byte, kWrittenSlotBytes> bytes) {
  return {static_cast<uint16_t>(LoadLittleEndian(bytes.subspan(0, 2))),
          static_cast<uint16_t>(LoadLittleEndian(bytes.subspan(2, 2)))};
}

absl::StatusOr<PageRequest> DecodePageRequest(std::span<const std::byte, kPageRequestBytes> bytes,
                                              const MemoryLayout& layout, bool integrity) {
  uint64_t region = LoadLittleEndian(bytes.subspan(0, 4));
  uint64_t check = LoadLittleEndian(bytes.subspan(4, 4));
  uint64_t index = LoadLittleEndian(bytes.subspan(8, 8));
  // Before the fields are looked at: a changed one is not the peer's mistake.
  if (integrity && check != DigestOfRequest({static_cast<RegionIndex>(region), index})) {
    return absl::DataLossError(
        "a page request changed on its way: its check sum is another one; it is not answered");
  }
  if (region >= layout.size()) {
    return absl::InvalidArgumentError(
        fmt::format("bad page request from the peer: field 'region' is {}, the VM has {} regions",
                    region, layout.size()));
  }
  if (!integrity && check != 0) {
    return absl::InvalidArgumentError(fmt::format(
        "bad page request from the peer: field 'check sum' is {}, without integrity it must be 0",
        check));
  }
  if (index >= layout[region].page_count()) {
    return absl::InvalidArgumentError(
        fmt::format("bad page request from the peer: field 'page' is {}, region '{}' has {} pages",
                    index, layout[region].name, layout[region].page_count()));
  }
  return PageRequest{{static_cast<RegionIndex>(region), index}};
}

absl::StatusOr<PageFrame> DecodePageFrame(std::span<const std::byte, kPageFrameBytes> bytes,
                                          const MemoryLayout& layout, uint64_t run_bytes_max,
                                          RdmaFrames rdma) {
  uint64_t kind = LoadLittleEndian(bytes.subspan(0, 2));
  uint64_t region = LoadLittleEndian(bytes.subspan(4, 4));
  uint64_t first = LoadLittleEndian(bytes.subspan(8, 8));
  uint64_t count = LoadLittleEndian(bytes.subspan(16, 4));
  const PageFrameKind last = LastKind(rdma);
  if (kind < static_cast<uint16_t>(PageFrameKind::kData) || kind > static_cast<uint16_t>(last)) {
    return absl::InvalidArgumentError(
        fmt::format("bad page frame from the peer: field 'kind' is {}, which is no kind (1 to {})",
                    kind, static_cast<uint16_t>(last)));
  }
  PageFrame frame{static_cast<PageFrameKind>(kind),
                  {static_cast<RegionIndex>(region), first, count},
                  static_cast<PackAlgorithm>(LoadLittleEndian(bytes.subspan(2, 2))),
                  static_cast<uint32_t>(LoadLittleEndian(bytes.subspan(20, 4)))};
  if (!HasPages(frame.kind)) return CheckMark(frame);
  if (region >= layout.size()) {
    return absl::InvalidArgumentError(
        fmt::format("bad page frame from the peer: field 'region' is {}, the VM has {} regions",
                    region, layout.size()));
  }
  const RegionLayout& shape = layout[region];
  if (first >= shape.page_count()) {
    return absl::InvalidArgumentError(fmt::format(
        "bad page frame from the peer: field 'first page' is {}, region '{}' has {} pages", first,
        shape.name, shape.page_count()));
  }
  if (count == 0 || count > shape.page_count() - first) {
    return absl::InvalidArgumentError(
        fmt::format("bad page frame from the peer: field 'pages' is {} from page {}, region '{}' "
                    "has {} pages",
                    count, first, shape.name, shape.page_count()));
  }
  if (count > 1 && frame.kind != PageFrameKind::kReadable &&
      count > run_bytes_max / shape.page_size_bytes) {
    return absl::InvalidArgumentError(fmt::format(
        "bad page frame from the peer: field 'pages' is {} of {} bytes each, a frame may have at "
        "most {} bytes",
        count, shape.page_size_bytes, run_bytes_max));
  }
  RETURN_IF_ERROR(CheckPacking(frame, count * shape.page_size_bytes));
  return frame;
}

}  // namespace faultline
