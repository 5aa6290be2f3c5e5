#include "protocol/message_fields.h"

#include <fmt/format.h>

#include <array>
#include <utility>

#include "base/check.h"
#include "protocol/codec.h"
#include "protocol/message_parts.h"

namespace faultline {
namespace {

// --- One Write and one Read for each message, in the order of their wire types ---

void Write(const Hello& hello, WireWriter& writer) {
  writer.U32(kProtocolMagic);
  writer.U16(hello.version_min);
  writer.U16(hello.version_max);
  writer.U8(static_cast<uint8_t>(hello.role));
  writer.U8(hello.lane_index);
  writer.U8(static_cast<uint8_t>(hello.integrity));
  writer.U8(hello.pre_copy ? 1 : 0);
  writer.Id(hello.migration_id);
  writer.Id(hello.token);
}

// The fields up to the token keep their places in all versions; what follows them may mean
// something to later versions and is ignored, and so is a wish that is none.
void Read(Hello* hello, WireReader& reader) {
  ReadMagic(reader);
  hello->version_min = reader.U16("version_min");
  hello->version_max = reader.U16("version_max");
  if (hello->version_min == 0 || hello->version_min > hello->version_max) {
    reader.Fail("version_max", fmt::format("makes the versions {} to {}, which is no range",
                                           hello->version_min, hello->version_max));
  }
  uint8_t role = reader.U8("role");
  if (role < static_cast<uint8_t>(ConnectionRole::kControl) ||
      role > static_cast<uint8_t>(ConnectionRole::kResume)) {
    reader.Fail("role", fmt::format("is {}, which is no role", role));
  }
  hello->role = static_cast<ConnectionRole>(role);
  hello->lane_index = reader.U8("lane_index");
  uint8_t integrity = reader.U8("integrity");
  if (integrity <= static_cast<uint8_t>(IntegrityWish::kOn)) {
    hello->integrity = static_cast<IntegrityWish>(integrity);
  }
  hello->pre_copy = reader.U8("pre_copy") == 1;
  hello->migration_id = reader.Id("migration_id");
  hello->token = reader.Id("token");
  reader.Bytes("later fields", reader.bytes_left());
}

void Write(const Welcome& welcome, WireWriter& writer) {
  writer.U32(kProtocolMagic);
  writer.U16(welcome.version);
  writer.U8(welcome.integrity ? 1 : 0);
  writer.U8(welcome.pre_copy ? 1 : 0);
  writer.Id(welcome.token);
}

void Read(Welcome* welcome, WireReader& reader) {
  ReadMagic(reader);
  welcome->version = reader.U16("version");
  if (welcome->version < kProtocolVersionMin || welcome->version > kProtocolVersionMax) {
    reader.Fail("version", fmt::format("is {}, which this side did not offer ({} to {})",
                                       welcome->version, kProtocolVersionMin, kProtocolVersionMax));
  }
  welcome->integrity = ReadFlag("integrity", reader);
  welcome->pre_copy = ReadFlag("pre_copy", reader);
  welcome->token = reader.Id("token");
}

void Write(const PeerError& error, WireWriter& writer) {
  writer.U32(kProtocolMagic);
  writer.U16(static_cast<uint16_t>(error.code));
  writer.U16(0);
  WriteText(error.text, writer);
}

void Read(PeerError* error, WireReader& reader) {
  ReadMagic(reader);
  uint16_t code = reader.U16("code");
  if (code < static_cast<uint16_t>(PeerErrorCode::kVersion) ||
      code > static_cast<uint16_t>(PeerErrorCode::kInternal)) {
    reader.Fail("code", fmt::format("is {}, which is no error code", code));
  }
  error->code = static_cast<PeerErrorCode>(code);
  ReadZero("reserved", reader.U16("reserved"), reader);
  error->text = ReadText("text", reader);
}

void Write(const Offer& offer, WireWriter& writer) {
  WriteLayout(offer.layout, writer);
  WriteText(offer.vmm_version, writer);
}

void Read(Offer* offer, WireReader& reader) {
  offer->layout = ReadLayout(reader);
  offer->vmm_version = ReadText("vmm_version", reader);
}

void Write(const Accepted& accepted, WireWriter& writer) {
  WriteText(accepted.vmm_version, writer);
}

void Read(Accepted* accepted, WireReader& reader) {
  accepted->vmm_version = ReadText("vmm_version", reader);
}

void Write(const Frozen& frozen, WireWriter& writer) { WriteLayout(frozen.layout, writer); }

void Read(Frozen* frozen, WireReader& reader) { frozen->layout = ReadLayout(reader); }

void Write(const AllocatedRanges& allocated, WireWriter& writer) {
  WriteRanges(allocated.region, allocated.ranges, writer);
}

void Read(AllocatedRanges* allocated, WireReader& reader) {
  ReadRanges(&allocated->region, &allocated->ranges, reader);
}

void Write(const AllocationMapEnd& end, WireWriter& writer) {
  writer.U64(end.data_pages);
  if (end.digest.has_value()) writer.U64(*end.digest);
}

void Read(AllocationMapEnd* end, WireReader& reader) {
  end->data_pages = ReadPageCount("data_pages", reader);
  if (reader.bytes_left() == sizeof(uint64_t)) end->digest = reader.U64("digest");
}

void Write(const DeviceState& state, WireWriter& writer) {
  FAULTLINE_CHECK(state.bytes.size() <= kDeviceStateChunkBytesMax);
  writer.Bytes(state.bytes);
}

void Read(DeviceState* state, WireReader& reader) {
  std::span<const std::byte> bytes = reader.Bytes("bytes", reader.bytes_left());
  if (bytes.size() > kDeviceStateChunkBytesMax) {
    reader.Fail("bytes", fmt::format("has {} bytes, at most {} are allowed", bytes.size(),
                                     kDeviceStateChunkBytesMax));
    return;
  }
  state->bytes.assign(bytes.begin(), bytes.end());
}

void Write(const DeviceStateEnd& end, WireWriter& writer) {
  writer.U64(end.bytes_total);
  if (end.digest.has_value()) writer.U64(*end.digest);
}

void Read(DeviceStateEnd* end, WireReader& reader) {
  end->bytes_total = reader.U64("bytes_total");
  if (reader.bytes_left() == sizeof(uint64_t)) end->digest = reader.U64("digest");
}

void Write(const Loaded&, WireWriter&) {}
void Read(Loaded*, WireReader&) {}

void Write(const Commit& commit, WireWriter& writer) {
  writer.U8(commit.run ? 1 : 0);
  writer.U64(commit.downtime_us);
}

void Read(Commit* commit, WireReader& reader) {
  commit->run = ReadFlag("run", reader);
  commit->downtime_us = reader.U64("downtime_us");
}

void Write(const Running& running, WireWriter& writer) { writer.U64(running.downtime_us); }

void Read(Running* running, WireReader& reader) {
  running->downtime_us = reader.U64("downtime_us");
}

void Write(const Progress& progress, WireWriter& writer) {
  writer.U64(progress.pages_missing);
  writer.U64(progress.pages_demand);
  writer.U64(progress.pages_pushed);
}

void Read(Progress* progress, WireReader& reader) {
  progress->pages_missing = reader.U64("pages_missing");
  progress->pages_demand = reader.U64("pages_demand");
  progress->pages_pushed = reader.U64("pages_pushed");
}

void Write(const Completed& completed, WireWriter& writer) {
  writer.U64(completed.pages_demand);
  writer.U64(completed.pages_pushed);
  writer.U64(completed.total_us);
}

void Read(Completed* completed, WireReader& reader) {
  completed->pages_demand = reader.U64("pages_demand");
  completed->pages_pushed = reader.U64("pages_pushed");
  completed->total_us = reader.U64("total_us");
}

void Write(const Goodbye&, WireWriter&) {}
void Read(Goodbye*, WireReader&) {}

void Write(const Heartbeat&, WireWriter&) {}
void Read(Heartbeat*, WireReader&) {}

void Write(const Ready&, WireWriter&) {}
void Read(Ready*, WireReader&) {}

void Write(const StillMissing& missing, WireWriter& writer) {
  WriteRanges(missing.region, missing.ranges, writer);
}

void Read(StillMissing* missing, WireReader& reader) {
  ReadRanges(&missing->region, &missing->ranges, reader);
}

void Write(const StillMissingEnd& end, WireWriter& writer) {
  writer.U64(end.missing_pages);
  writer.U8(end.map_complete ? 1 : 0);
}

void Read(StillMissingEnd* end, WireReader& reader) {
  end->missing_pages = ReadPageCount("missing_pages", reader);
  end->map_complete = ReadFlag("map_complete", reader);
}

void Write(const PackedDeviceState& state, WireWriter& writer) {
  FAULTLINE_CHECK(state.unpacked_bytes <= kDeviceStateChunkBytesMax &&
                  state.bytes.size() < state.unpacked_bytes);
  writer.U32(state.unpacked_bytes);
  writer.Bytes(state.bytes);
}

void Read(PackedDeviceState* state, WireReader& reader) {
  state->unpacked_bytes = reader.U32("unpacked_bytes");
  std::span<const std::byte> bytes = reader.Bytes("bytes", reader.bytes_left());
  if (state->unpacked_bytes > kDeviceStateChunkBytesMax) {
    reader.Fail("unpacked_bytes", fmt::format("is {}, at most {} are allowed",
                                              state->unpacked_bytes, kDeviceStateChunkBytesMax));
  } else if (bytes.empty() || bytes.size() >= state->unpacked_bytes) {
    reader.Fail("bytes", fmt::format("has {} bytes, which unpack to {}: it must have some, and "
                                     "fewer than that",
                                     bytes.size(), state->unpacked_bytes));
  }
  state->bytes.assign(bytes.begin(), bytes.end());
}

void Write(const Mismatch& mismatch, WireWriter& writer) {
  writer.U32(mismatch.run.region);
  writer.U64(mismatch.run.first);
  writer.U64(mismatch.run.count);
}

void Read(Mismatch* mismatch, WireReader& reader) {
  mismatch->run.region = reader.U32("region");
  if (mismatch->run.region >= kRegionsMax) {
    reader.Fail("region",
                fmt::format("is {}, there are at most {}", mismatch->run.region, kRegionsMax));
  }
  mismatch->run.first = ReadPageCount("first", reader);
  mismatch->run.count = ReadPageCount("count", reader);
}

void Write(const RoundReceived& received, WireWriter& writer) { writer.U32(received.round); }

void Read(RoundReceived* received, WireReader& reader) { received->round = ReadRound(reader); }

void Write(const StillDirty& dirty, WireWriter& writer) {
  WritePackedRanges(dirty.region, dirty.ranges, writer);
}

void Read(StillDirty* dirty, WireReader& reader) {
  ReadPackedRanges(&dirty->region, &dirty->ranges, reader);
}

void Write(const StillDirtyEnd& end, WireWriter& writer) {
  writer.U32(end.round);
  writer.U64(end.dirty_pages);
  if (end.digest.has_value()) writer.U64(*end.digest);
}

void Read(StillDirtyEnd* end, WireReader& reader) {
  end->round = ReadRound(reader);
  end->dirty_pages = ReadPageCount("dirty_pages", reader);
  if (reader.bytes_left() == sizeof(uint64_t)) end->digest = reader.U64("digest");
}

// --- Any message ---

template <size_t I>
absl::StatusOr<Message> ReadAs(const char* name, std::span<const std::byte> payload) {
  std::variant_alternative_t<I, Message> message;
  WireReader reader(name, payload);
  Read(&message, reader);
  RETURN_IF_ERROR(reader.Finish());
  return Message(std::in_place_index<I>, std::move(message));
}

template <size_t... I>
absl::StatusOr<Message> ReadPayload(size_t index, const char* name,
                                    std::span<const std::byte> payload, std::index_sequence<I...>) {
  using Reader = absl::StatusOr<Message> (*)(const char*, std::span<const std::byte>);
  constexpr std::array<Reader, sizeof...(I)> kReaders = {&ReadAs<I>...};
  return kReaders[index](name, payload);
}

}  // namespace

void WriteFields(const Message& message, WireWriter& writer) {
  std::visit([&](const auto& alternative) { Write(alternative, writer); }, message);
}

absl::StatusOr<Message> ReadFields(size_t index, const char* name,
                                   std::span<const std::byte> payload) {
  return ReadPayload(index, name, payload,
                     std::make_index_sequence<std::variant_size_v<Message>>());
}

}  // namespace faultline
