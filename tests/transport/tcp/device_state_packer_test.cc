#include "transport/tcp/device_state_packer.h"

#include <gtest/gtest.h>

#include <random>

#include "protocol/codec.h"

namespace faultline {
namespace {

DeviceState Zeros(size_t bytes) { return {.bytes = std::vector<std::byte>(bytes)}; }

DeviceState Noise(size_t bytes) {
  std::mt19937_64 random(7);
  DeviceState state = Zeros(bytes);
  for (std::byte& byte : state.bytes) byte = static_cast<std::byte>(random());
  return state;
}

TEST(DeviceStatePackerTest, WhatPacksIsPackedAndComesBack) {
  DeviceState state = Zeros(kDeviceStateChunkBytesMax);
  for (size_t i = 0; i < state.bytes.size(); i += 100) state.bytes[i] = static_cast<std::byte>(i);
  const Message message = PackDeviceState(state);
  const auto* packed = std::get_if<PackedDeviceState>(&message);
  ASSERT_NE(packed, nullptr);
  EXPECT_LT(packed->bytes.size(), state.bytes.size() / 4);
  EXPECT_EQ(UnpackDeviceState(*packed).value(), state);
}

TEST(DeviceStatePackerTest, NoiseAndLittleGoAsTheyAre) {
  for (const DeviceState& state : {Noise(100'000), Zeros(1023), Zeros(0)}) {
    EXPECT_EQ(PackDeviceState(state), Message(state));
  }
}

TEST(DeviceStatePackerTest, WhatDoesNotUnpackToWhatWasSaidIsRefused) {
  const auto good = std::get<PackedDeviceState>(PackDeviceState(Zeros(5000)));
  PackedDeviceState longer = good;
  ++longer.unpacked_bytes;
  PackedDeviceState shorter = good;
  --shorter.unpacked_bytes;
  PackedDeviceState cut = good;
  cut.bytes.pop_back();
  PackedDeviceState garbage{.unpacked_bytes = 5000, .bytes = Noise(50).bytes};
  for (const PackedDeviceState& bad : {longer, shorter, cut, garbage}) {
    absl::Status status = UnpackDeviceState(bad).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_NE(MessageOf(status).find("PackedDeviceState message from the peer: field 'bytes'"),
              std::string::npos);
  }
}

}  // namespace
}  // namespace faultline
