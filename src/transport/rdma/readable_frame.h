// The frame that says where a run can be read. Pure.
#ifndef FAULTLINE_TRANSPORT_RDMA_READABLE_FRAME_H_
#define FAULTLINE_TRANSPORT_RDMA_READABLE_FRAME_H_

#include <array>
#include <cstddef>
#include <span>

#include "protocol/codec.h"

namespace faultline {

using ReadableFrame = std::array<std::byte, kPageFrameBytes + kRemotePlaceBytes>;

inline ReadableFrame EncodeReadableFrame(const PageRun& run, const RemotePlace& place) {
  ReadableFrame frame;
  std::span<std::byte, kPageFrameBytes + kRemotePlaceBytes> bytes(frame);
  EncodePageFrame({PageFrameKind::kReadable, run}, bytes.first<kPageFrameBytes>());
  EncodeRemotePlace(place, bytes.last<kRemotePlaceBytes>());
  return frame;
}

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_READABLE_FRAME_H_
