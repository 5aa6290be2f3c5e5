// The frame that says where a run can be read. Pure.
#ifndef FAULTLINE_TRANSPORT_RDMA_READABLE_FRAME_H_
#define FAULTLINE_TRANSPORT_RDMA_READABLE_FRAME_H_

#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "protocol/codec.h"
#include "transport/rdma/rail_places.h"

namespace faultline {

using ReadableFrame = std::array<std::byte, kPageFrameBytes + kRemotePlaceBytes>;
// Of a run that lies readable on as many rails as there may be.
inline constexpr size_t kReadableFrameBytesMax =
    kPageFrameBytes + kRdmaRailsMax * kRemotePlaceBytes;

inline ReadableFrame EncodeReadableFrame(const PageRun& run, const RemotePlace& place) {
  ReadableFrame frame;
  std::span<std::byte, kPageFrameBytes + kRemotePlaceBytes> bytes(frame);
  EncodePageFrame({PageFrameKind::kReadable, run}, bytes.first<kPageFrameBytes>());
  EncodeRemotePlace(place, bytes.last<kRemotePlaceBytes>());
  return frame;
}

// Appends the frame of a run that has one place at least to `out`.
void AppendReadableFrame(const PageRun& run, const RailPlaces& places, std::vector<std::byte>* out);

// How long the frame is whose beginning `bytes` is: to be asked again when that much is there.
// InvalidArgument: it says more places than there are rails.
absl::StatusOr<size_t> ReadableFrameBytes(std::span<const std::byte> bytes);
// The places of a whole frame. InvalidArgument: two are on one rail, or the counts do not fit.
absl::StatusOr<RailPlaces> DecodeRailPlaces(std::span<const std::byte> frame);

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_READABLE_FRAME_H_
