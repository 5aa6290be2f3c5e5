#include "transport/rdma/readable_frame.h"

#include <fmt/format.h>

namespace faultline {
namespace {

RemotePlace PlaceAt(std::span<const std::byte> frame, size_t number) {
  return DecodeRemotePlace(
      frame.subspan(kPageFrameBytes + number * kRemotePlaceBytes).first<kRemotePlaceBytes>());
}

}  // namespace

void AppendReadableFrame(const PageRun& run, const RailPlaces& places,
                         std::vector<std::byte>* out) {
  std::array<std::byte, kPageFrameBytes> header;
  EncodePageFrame({PageFrameKind::kReadable, run}, header);
  out->insert(out->end(), header.begin(), header.end());
  auto left = static_cast<uint16_t>(places.all().size());
  for (RemotePlace place : places.all()) {
    place.more = --left;
    std::array<std::byte, kRemotePlaceBytes> bytes;
    EncodeRemotePlace(place, bytes);
    out->insert(out->end(), bytes.begin(), bytes.end());
  }
}

absl::StatusOr<size_t> ReadableFrameBytes(std::span<const std::byte> bytes) {
  constexpr size_t kFirst = kPageFrameBytes + kRemotePlaceBytes;
  if (bytes.size() < kFirst) return kFirst;
  const RemotePlace first = PlaceAt(bytes, 0);
  if (first.more < kRdmaRailsMax) return kFirst + first.more * kRemotePlaceBytes;
  return absl::InvalidArgumentError(fmt::format(
      "bad page frame from the peer: field 'more' is {}, and there are at most {} rails",
      first.more, kRdmaRailsMax));
}

absl::StatusOr<RailPlaces> DecodeRailPlaces(std::span<const std::byte> frame) {
  RailPlaces places;
  const size_t count = (frame.size() - kPageFrameBytes) / kRemotePlaceBytes;
  for (size_t i = 0; i < count; ++i) {
    const RemotePlace place = PlaceAt(frame, i);
    if (place.more != count - 1 - i) {
      return absl::InvalidArgumentError(
          fmt::format("bad page frame from the peer: field 'more' is {} of place {} of {}",
                      place.more, i + 1, count));
    }
    if (places.On(place.rail).has_value()) {
      return absl::InvalidArgumentError(fmt::format(
          "bad page frame from the peer: field 'rail' is {} of two places of one run", place.rail));
    }
    places.Add(place);
  }
  return places;
}

}  // namespace faultline
