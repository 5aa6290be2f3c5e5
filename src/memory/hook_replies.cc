#include "memory/hook_replies.h"

#include <fmt/format.h>
#include <sys/sysmacros.h>

#include <cstring>

namespace faultline {
namespace {

// The caller has checked that the bytes are there.
template <typename T>
T ReadAt(std::span<const uint8_t> bytes, size_t offset) {
  T value;
  memcpy(&value, bytes.data() + offset, sizeof(value));
  return value;
}

}  // namespace

absl::StatusOr<HookHeader> ParseReplyHeader(std::span<const uint8_t> message) {
  if (message.size() < sizeof(HookHeader)) return absl::InvalidArgumentError("a short answer");
  auto header = ReadAt<HookHeader>(message, 0);
  HookSwapHeader(&header);
  if (header.magic != HOOK_MAGIC) {
    return absl::InvalidArgumentError("its answer begins with another magic number");
  }
  if (header.length != message.size()) {
    return absl::InvalidArgumentError("an answer of the wrong length");
  }
  return header;
}

absl::StatusOr<HookInfo> ParseHelloReply(std::span<const uint8_t> payload) {
  if (payload.size() < sizeof(HookHelloReply)) {
    return absl::InvalidArgumentError("a short HELLO");
  }
  auto answer = ReadAt<HookHelloReply>(payload, 0);
  HookSwapHelloReply(&answer);
  if (answer.version < HOOK_VERSION_MIN || answer.version > HOOK_VERSION_MAX) {
    return absl::InvalidArgumentError(fmt::format("protocol version {}", answer.version));
  }
  HookInfo info;
  info.version = answer.version;
  info.release.assign(answer.release, strnlen(answer.release, sizeof(answer.release)));
  for (char& c : info.release) {
    if (c < 0x20 || c == 0x7f) c = '?';
  }
  info.process_id = static_cast<pid_t>(answer.process_id);
  info.armed = (answer.flags & kHookHelloArmed) != 0;
  return info;
}

absl::StatusOr<ArmedRegions> ParseArmedRegions(std::span<const uint8_t> payload) {
  if (payload.size() < sizeof(HookRegions)) {
    return absl::InvalidArgumentError("a short list of regions");
  }
  auto list = ReadAt<HookRegions>(payload, 0);
  HookSwapRegions(&list);
  if (list.region_count > HOOK_REGIONS_MAX ||
      payload.size() != sizeof(HookRegions) + list.region_count * sizeof(HookArmedRegion)) {
    return absl::InvalidArgumentError(
        fmt::format("a list of {} regions in {} bytes", list.region_count, payload.size()));
  }
  ArmedRegions result;
  result.features = list.features;
  for (uint32_t i = 0; i < list.region_count; ++i) {
    auto armed =
        ReadAt<HookArmedRegion>(payload, sizeof(HookRegions) + i * sizeof(HookArmedRegion));
    HookSwapArmedRegion(&armed);
    const HookRegion& region = armed.region;
    result.regions.push_back(
        {.region = {.name = {},
                    .device = makedev(region.device_major, region.device_minor),
                    .inode = region.inode,
                    .file_offset_bytes = region.file_offset,
                    .size_bytes = region.size,
                    .page_size_bytes = region.page_size},
         .host_address = armed.host_address,
         .ioctls = armed.ioctls});
  }
  return result;
}

}  // namespace faultline
