// The lanes' part of the codec.
#include <fmt/format.h>

#include "protocol/codec.h"
#include "protocol/wire_bytes.h"

namespace faultline {

void EncodePageRequest(const PageRequest& request, std::span<std::byte, kPageRequestBytes> out) {
  StoreLittleEndian(request.page.region, out.subspan(0, 4));
  StoreLittleEndian(0, out.subspan(4, 4));
  StoreLittleEndian(request.page.index, out.subspan(8, 8));
}

void EncodePageFrame(const PageFrame& frame, std::span<std::byte, kPageFrameBytes> out) {
  StoreLittleEndian(static_cast<uint32_t>(frame.kind), out.subspan(0, 4));
  StoreLittleEndian(frame.run.region, out.subspan(4, 4));
  StoreLittleEndian(frame.run.first, out.subspan(8, 8));
  StoreLittleEndian(frame.run.count, out.subspan(16, 8));
}

absl::StatusOr<PageRequest> DecodePageRequest(std::span<const std::byte, kPageRequestBytes> bytes,
                                              const MemoryLayout& layout) {
  uint64_t region = LoadLittleEndian(bytes.subspan(0, 4));
  uint64_t reserved = LoadLittleEndian(bytes.subspan(4, 4));
  uint64_t index = LoadLittleEndian(bytes.subspan(8, 8));
  if (region >= layout.size()) {
    return absl::InvalidArgumentError(
        fmt::format("bad page request from the peer: field 'region' is {}, the VM has {} regions",
                    region, layout.size()));
  }
  if (reserved != 0) {
    return absl::InvalidArgumentError(fmt::format(
        "bad page request from the peer: field 'reserved' is {}, it must be 0", reserved));
  }
  if (index >= layout[region].page_count()) {
    return absl::InvalidArgumentError(
        fmt::format("bad page request from the peer: field 'page' is {}, region '{}' has {} pages",
                    index, layout[region].name, layout[region].page_count()));
  }
  return PageRequest{{static_cast<RegionIndex>(region), index}};
}

absl::StatusOr<PageFrame> DecodePageFrame(std::span<const std::byte, kPageFrameBytes> bytes,
                                          const MemoryLayout& layout, uint64_t run_bytes_max) {
  uint64_t kind = LoadLittleEndian(bytes.subspan(0, 4));
  uint64_t region = LoadLittleEndian(bytes.subspan(4, 4));
  uint64_t first = LoadLittleEndian(bytes.subspan(8, 8));
  uint64_t count = LoadLittleEndian(bytes.subspan(16, 8));
  if (kind < static_cast<uint32_t>(PageFrameKind::kData) ||
      kind > static_cast<uint32_t>(PageFrameKind::kFinished)) {
    return absl::InvalidArgumentError(fmt::format(
        "bad page frame from the peer: field 'kind' is {}, which is no kind (1 to 3)", kind));
  }
  PageFrame frame{static_cast<PageFrameKind>(kind),
                  {static_cast<RegionIndex>(region), first, count}};
  if (frame.kind == PageFrameKind::kFinished) {
    if (region == 0 && first == 0 && count == 0) return frame;
    return absl::InvalidArgumentError(
        "bad page frame from the peer: field 'pages' of the last frame is not empty");
  }
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
  if (count > 1 && count > run_bytes_max / shape.page_size_bytes) {
    return absl::InvalidArgumentError(fmt::format(
        "bad page frame from the peer: field 'pages' is {} of {} bytes each, a frame may have at "
        "most {} bytes",
        count, shape.page_size_bytes, run_bytes_max));
  }
  return frame;
}

}  // namespace faultline
