#include "transport/tcp/device_state_packer.h"

#include <fmt/format.h>
#include <lz4.h>

#include <utility>

#include "base/check.h"
#include "protocol/codec.h"

namespace faultline {
namespace {

// Less than this is one packet anyway.
constexpr size_t kPackedFromBytes = 1024;

}  // namespace

Message PackDeviceState(const DeviceState& state) {
  FAULTLINE_CHECK(state.bytes.size() <= kDeviceStateChunkBytesMax);
  if (state.bytes.size() < kPackedFromBytes) return state;
  PackedDeviceState packed;
  packed.unpacked_bytes = static_cast<uint32_t>(state.bytes.size());
  // Room for less than it has: what does not pack is not worth its time.
  packed.bytes.resize(state.bytes.size() - state.bytes.size() / 16);
  const int bytes = LZ4_compress_default(reinterpret_cast<const char*>(state.bytes.data()),
                                         reinterpret_cast<char*>(packed.bytes.data()),
                                         static_cast<int>(state.bytes.size()),
                                         static_cast<int>(packed.bytes.size()));
  if (bytes == 0) return state;
  packed.bytes.resize(static_cast<size_t>(bytes));
  return packed;
}

absl::StatusOr<DeviceState> UnpackDeviceState(const PackedDeviceState& packed) {
  FAULTLINE_CHECK(packed.unpacked_bytes <= kDeviceStateChunkBytesMax);
  DeviceState state;
  state.bytes.resize(packed.unpacked_bytes);
  const int bytes = LZ4_decompress_safe(reinterpret_cast<const char*>(packed.bytes.data()),
                                        reinterpret_cast<char*>(state.bytes.data()),
                                        static_cast<int>(packed.bytes.size()),
                                        static_cast<int>(packed.unpacked_bytes));
  if (std::cmp_not_equal(bytes, packed.unpacked_bytes)) {
    return absl::InvalidArgumentError(
        fmt::format("bad PackedDeviceState message from the peer: field 'bytes' has {} bytes that "
                    "are no LZ4 block of {}",
                    packed.bytes.size(), packed.unpacked_bytes));
  }
  return state;
}

}  // namespace faultline
