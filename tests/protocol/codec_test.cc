#include "protocol/codec.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "base/text.h"
#include "protocol/golden_messages.h"
#include "protocol/handshake.h"

namespace faultline {
namespace {

std::vector<std::byte> Encode(const Message& message) {
  std::vector<std::byte> bytes;
  EncodeMessage(message, &bytes);
  return bytes;
}

std::string Hex(std::span<const std::byte> bytes) {
  return HexEncode({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
}

// `bytes` as the payload of a message of wire type `type`.
std::vector<std::byte> Wrap(uint16_t type, std::vector<std::byte> payload) {
  std::vector<std::byte> bytes(kMessageHeaderBytes);
  bytes[0] = static_cast<std::byte>(type);
  for (int i = 0; i < 4; ++i) bytes[4 + i] = static_cast<std::byte>(payload.size() >> (8 * i));
  bytes.insert(bytes.end(), payload.begin(), payload.end());
  return bytes;
}

void Store(std::vector<std::byte>& bytes, size_t at, uint64_t value, int width) {
  for (int i = 0; i < width; ++i) bytes[at + i] = static_cast<std::byte>(value >> (8 * i));
}

// The message must be refused, and the error must name it and the field.
void ExpectRefused(const std::vector<std::byte>& bytes, const std::string& message,
                   const std::string& field) {
  auto decoded = DecodeMessage(bytes);
  ASSERT_FALSE(decoded.ok()) << message << "." << field << " was taken";
  EXPECT_TRUE(absl::IsInvalidArgument(decoded.status()));
  std::string text = MessageOf(decoded.status());
  EXPECT_NE(text.find(message), std::string::npos) << text;
  EXPECT_NE(text.find("'" + field), std::string::npos) << text;
}

TEST(CodecTest, GoldenBytesHaveOneOfEachMessage) {
  auto golden = GoldenMessages();
  ASSERT_EQ(golden.size(), std::variant_size_v<Message>);
  for (size_t i = 0; i < golden.size(); ++i) {
    EXPECT_EQ(golden[i].message.index(), i);
    EXPECT_STREQ(MessageName(golden[i].message), golden[i].name);
  }
}

TEST(CodecTest, TheWireFormatIsWhatItWas) {
  for (const GoldenMessage& golden : GoldenMessages()) {
    EXPECT_EQ(Hex(Encode(golden.message)), golden.hex) << golden.name;
  }
}

TEST(CodecTest, EveryMessageComesBack) {
  for (const GoldenMessage& golden : GoldenMessages()) {
    std::vector<std::byte> bytes = Encode(golden.message);
    bytes.push_back(std::byte{1});  // the next message
    auto decoded = DecodeMessage(bytes);
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(decoded->bytes_used, bytes.size() - 1);
    EXPECT_TRUE(decoded->message == golden.message) << golden.name;
  }
}

TEST(CodecTest, EveryEnumValueComesBack) {
  for (uint8_t role = 1; role <= 5; ++role) {
    Hello hello;
    hello.role = static_cast<ConnectionRole>(role);
    EXPECT_TRUE(DecodeMessage(Encode(hello))->message == Message(hello));
  }
  for (uint16_t code = 1; code <= 10; ++code) {
    PeerError error{static_cast<PeerErrorCode>(code), "x"};
    EXPECT_TRUE(DecodeMessage(Encode(error))->message == Message(error));
    EXPECT_FALSE(StatusOfPeerError(error).ok());
  }
  EXPECT_TRUE(DecodeMessage(Encode(Commit{false, 1}))->message == Message(Commit{false, 1}));
}

TEST(CodecTest, CutAtEveryByteMoreIsAwaited) {
  for (const GoldenMessage& golden : GoldenMessages()) {
    std::vector<std::byte> bytes = Encode(golden.message);
    for (size_t length = 0; length < bytes.size(); ++length) {
      auto decoded = DecodeMessage(std::span(bytes).first(length));
      ASSERT_TRUE(decoded.ok()) << golden.name << " cut at " << length;
      EXPECT_EQ(decoded->bytes_used, 0u) << golden.name << " cut at " << length;
    }
  }
}

bool HasFreeLength(const Message& message) {
  return std::holds_alternative<DeviceState>(message) ||
         std::holds_alternative<PackedDeviceState>(message);
}

TEST(CodecTest, PayloadCutAtEveryByteIsRefusedUnlessItsLengthIsFree) {
  for (const GoldenMessage& golden : GoldenMessages()) {
    if (HasFreeLength(golden.message)) continue;
    std::vector<std::byte> bytes = Encode(golden.message);
    for (size_t length = kMessageHeaderBytes; length < bytes.size(); ++length) {
      std::vector<std::byte> cut(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(length));
      Store(cut, 4, length - kMessageHeaderBytes, 4);
      auto decoded = DecodeMessage(cut);
      ASSERT_FALSE(decoded.ok()) << golden.name << " cut at " << length;
      EXPECT_NE(MessageOf(decoded.status()).find(golden.name), std::string::npos);
    }
  }
}

TEST(CodecTest, ALongerPayloadIsRefusedButInHello) {
  for (const GoldenMessage& golden : GoldenMessages()) {
    if (HasFreeLength(golden.message)) continue;
    std::vector<std::byte> bytes = Encode(golden.message);
    bytes.push_back(std::byte{0});
    Store(bytes, 4, bytes.size() - kMessageHeaderBytes, 4);
    if (std::holds_alternative<Hello>(golden.message)) {
      EXPECT_TRUE(DecodeMessage(bytes)->message == golden.message);
    } else {
      ExpectRefused(bytes, golden.name, "payload bytes");
    }
  }
}

TEST(CodecTest, MutatedBytesNeverDecodeToWhatDoesNotComeBack) {
  std::mt19937_64 random(20240607);
  auto goldens = GoldenMessages();
  size_t taken = 0;
  for (int round = 0; round < 60000; ++round) {
    std::vector<std::byte> bytes = Encode(goldens[random() % goldens.size()].message);
    for (uint64_t changes = 1 + random() % 4; changes > 0; --changes) {
      bytes[random() % bytes.size()] = static_cast<std::byte>(random());
    }
    auto decoded = DecodeMessage(bytes);
    if (!decoded.ok() || decoded->bytes_used == 0) continue;
    ++taken;
    auto again = DecodeMessage(Encode(decoded->message));
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_TRUE(again->message == decoded->message);
  }
  EXPECT_GT(taken, 1000u);
}

TEST(CodecTest, HeaderIsChecked) {
  ExpectRefused(Wrap(0, {}), "message", "type");
  ExpectRefused(Wrap(std::variant_size_v<Message> + 1, {}), "message", "type");
  std::vector<std::byte> reserved = Encode(Loaded{});
  reserved[2] = std::byte{1};
  ExpectRefused(reserved, "Loaded", "reserved");
  // The promise of too much is refused before any of it has come.
  for (const GoldenMessage& golden : GoldenMessages()) {
    std::vector<std::byte> header = Encode(golden.message);
    header.resize(kMessageHeaderBytes);
    Store(header, 4, kMessagePayloadBytesMax + 1, 4);
    ExpectRefused(header, golden.name, "payload bytes");
  }
}

TEST(CodecTest, HelloIsChecked) {
  const std::vector<std::byte> good = Encode(Hello{});
  auto with = [&](size_t at, uint64_t value, int width) {
    std::vector<std::byte> bytes = good;
    Store(bytes, kMessageHeaderBytes + at, value, width);
    return bytes;
  };
  ExpectRefused(with(0, 0x12345678, 4), "Hello", "magic");
  ExpectRefused(with(4, 0, 2), "Hello", "version_max");
  ExpectRefused(with(4, 2, 2), "Hello", "version_max");
  ExpectRefused(with(8, 0, 1), "Hello", "role");
  ExpectRefused(with(8, 6, 1), "Hello", "role");
  EXPECT_TRUE(DecodeMessage(with(10, 0xffff, 2)).ok()) << "wishes that later versions may have";
}

TEST(CodecTest, AnswersToHelloAreChecked) {
  std::vector<std::byte> welcome = Encode(Welcome{});
  Store(welcome, kMessageHeaderBytes + 4, 2, 2);
  ExpectRefused(welcome, "Welcome", "version");
  welcome = Encode(Welcome{});
  Store(welcome, kMessageHeaderBytes + 6, 2, 1);
  ExpectRefused(welcome, "Welcome", "integrity");
  welcome = Encode(Welcome{});
  Store(welcome, kMessageHeaderBytes + 7, 2, 1);
  ExpectRefused(welcome, "Welcome", "pre_copy");
  std::vector<std::byte> error = Encode(PeerError{PeerErrorCode::kBusy, "x"});
  Store(error, kMessageHeaderBytes + 4, 11, 2);
  ExpectRefused(error, "PeerError", "code");
  Store(error, kMessageHeaderBytes + 4, 0, 2);
  ExpectRefused(error, "PeerError", "code");
}

TEST(CodecTest, IntegrityIsSaidWhereOlderReleasesLookedAtNothing) {
  Hello hello{.integrity = IntegrityWish::kOn};
  Welcome welcome{.integrity = true};
  EXPECT_EQ(Hex(Encode(hello)).substr(36, 4), "0300");  // behind lane_index
  EXPECT_EQ(Hex(Encode(welcome)).substr(28, 4), "0100");
  EXPECT_TRUE(DecodeMessage(Encode(hello))->message == Message(hello));
  EXPECT_TRUE(DecodeMessage(Encode(welcome))->message == Message(welcome));
  std::vector<std::byte> later = Encode(hello);
  Store(later, kMessageHeaderBytes + 10, 4, 1);
  EXPECT_EQ(std::get<Hello>(DecodeMessage(later)->message).integrity, IntegrityWish::kCannot);

  const AllocationMapEnd end{.data_pages = 0x1234, .digest = 0x0102030405060708};
  EXPECT_EQ(Hex(Encode(end)), "080000001000000034120000000000000807060504030201");
  EXPECT_TRUE(DecodeMessage(Encode(end))->message == Message(end));
  for (std::optional<uint64_t> digest : {std::optional<uint64_t>(), std::optional<uint64_t>(5)}) {
    const DeviceStateEnd state{.bytes_total = 0x1234, .digest = digest};
    EXPECT_TRUE(DecodeMessage(Encode(state))->message == Message(state));
  }
}

TEST(CodecTest, RoundsAreAskedForWhereOlderReleasesLookedAtNothing) {
  Hello hello{.pre_copy = true};
  Welcome welcome{.pre_copy = true};
  EXPECT_EQ(Hex(Encode(hello)).substr(36, 4), "0001");
  EXPECT_EQ(Hex(Encode(welcome)).substr(28, 4), "0001");
  EXPECT_TRUE(DecodeMessage(Encode(hello))->message == Message(hello));
  EXPECT_TRUE(DecodeMessage(Encode(welcome))->message == Message(welcome));
  std::vector<std::byte> later = Encode(hello);
  Store(later, kMessageHeaderBytes + 11, 2, 1);
  EXPECT_FALSE(std::get<Hello>(DecodeMessage(later)->message).pre_copy);
}

TEST(CodecTest, StillDirtyIsPackedAndChecked) {
  StillDirty most{.region = 1, .ranges = {}};
  for (uint64_t i = 0; i < kRangesPerMessageMax; ++i) most.ranges.push_back({2 * i, 2 * i + 1});
  EXPECT_EQ(Encode(most).size(), kMessageHeaderBytes + 8 + 2 * kRangesPerMessageMax);
  EXPECT_TRUE(DecodeMessage(Encode(most))->message == Message(most));
  const uint64_t pages_max = kRegionBytesMax / kPageBytesMin;
  const StillDirty last{.region = 0, .ranges = {{0, 1}, {pages_max - 1, pages_max}}};
  EXPECT_TRUE(DecodeMessage(Encode(last))->message == Message(last));

  auto dirty = [](std::vector<uint8_t> tail, uint32_t count) {
    std::vector<std::byte> payload(8);
    Store(payload, 4, count, 4);
    for (uint8_t byte : tail) payload.push_back(std::byte{byte});
    return Wrap(24, payload);
  };
  EXPECT_TRUE(DecodeMessage(dirty({1, 2}, 1)).ok());
  ExpectRefused(dirty({1, 2}, 2), "StillDirty", "ranges.count");
  ExpectRefused(dirty({1, 0x80}, 1), "StillDirty", "ranges.count");
  ExpectRefused(dirty({0x80, 0, 0}, 1), "StillDirty", "ranges.gap");  // not the shortest form
  ExpectRefused(dirty({0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0}, 1), "StillDirty", "ranges.gap");
  ExpectRefused(dirty({0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0}, 1), "StillDirty", "ranges");
  std::vector<std::byte> region = dirty({1, 2}, 1);
  Store(region, kMessageHeaderBytes, kRegionsMax, 4);
  ExpectRefused(region, "StillDirty", "region");

  StillDirtyEnd end{.round = 1, .dirty_pages = 2, .digest = 3};
  EXPECT_TRUE(DecodeMessage(Encode(end))->message == Message(end));
  for (Message message : {Message(end), Message(RoundReceived{1})}) {
    std::vector<std::byte> bytes = Encode(message);
    Store(bytes, kMessageHeaderBytes, 0, 4);
    ExpectRefused(bytes, MessageName(message), "round");
    Store(bytes, kMessageHeaderBytes, kRoundMax + 1, 4);
    ExpectRefused(bytes, MessageName(message), "round");
  }
}

TEST(CodecTest, TextsAreCutWhenSentAndCheckedWhenReceived) {
  PeerError error{PeerErrorCode::kInternal, std::string(kErrorTextBytesMax + 10, 'x')};
  auto decoded = DecodeMessage(Encode(error));
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(std::get<PeerError>(decoded->message).text.size(), kErrorTextBytesMax);

  std::vector<std::byte> accepted = Encode(Accepted{"QEMU"});
  Store(accepted, kMessageHeaderBytes, kErrorTextBytesMax + 1, 4);
  ExpectRefused(accepted, "Accepted", "vmm_version");
  Store(accepted, kMessageHeaderBytes, 5, 4);
  ExpectRefused(accepted, "Accepted", "vmm_version");
  // A terminal shall not obey the peer.
  decoded = DecodeMessage(Encode(Accepted{"a\x1b[2Jb\nc\x7f"}));
  EXPECT_EQ(std::get<Accepted>(decoded->message).vmm_version, "a?[2Jb\nc?");
}

TEST(CodecTest, LayoutIsChecked) {
  const MemoryLayout layout = {{"ram", 0x40000000, 0x1000}};
  const std::vector<std::byte> good = Encode(Frozen{layout});
  auto with = [&](size_t at, uint64_t value, int width) {
    std::vector<std::byte> bytes = good;
    Store(bytes, kMessageHeaderBytes + at, value, width);
    return bytes;
  };
  ExpectRefused(with(0, kRegionsMax + 1, 4), "Frozen", "layout.count");
  ExpectRefused(with(0, 0, 4), "Frozen", "layout");
  ExpectRefused(with(0, 2, 4), "Frozen", "layout.size_bytes");
  ExpectRefused(with(4, 0x40000001, 8), "Frozen", "layout");
  ExpectRefused(with(4, 0, 8), "Frozen", "layout");
  ExpectRefused(with(12, 0x1001, 8), "Frozen", "layout");
  ExpectRefused(with(12, uint64_t{1} << 31, 8), "Frozen", "layout");
  ExpectRefused(with(20, 500, 2), "Frozen", "layout.name");
  ExpectRefused(with(22, 7, 1), "Frozen", "layout.name");

  MemoryLayout most;
  for (uint64_t i = 0; i < kRegionsMax; ++i) {
    most.push_back({fmt::format("{:0>255}", i), kRegionBytesMax, kPageBytesMin});
  }
  EXPECT_TRUE(DecodeMessage(Encode(Offer{most, "QEMU"}))->message == Message(Offer{most, "QEMU"}));
}

TEST(CodecTest, AllocatedRangesAreChecked) {
  const std::vector<std::byte> good = Encode(AllocatedRanges{1, {{2, 5}, {7, 9}}});
  auto with = [&](size_t at, uint64_t value, int width) {
    std::vector<std::byte> bytes = good;
    Store(bytes, kMessageHeaderBytes + at, value, width);
    return bytes;
  };
  ExpectRefused(with(0, kRegionsMax, 4), "AllocatedRanges", "region");
  ExpectRefused(with(4, 3, 4), "AllocatedRanges", "ranges.count");
  ExpectRefused(with(4, 0xffffffff, 4), "AllocatedRanges", "ranges.count");
  ExpectRefused(with(8, 5, 8), "AllocatedRanges", "ranges");   // empty
  ExpectRefused(with(24, 4, 8), "AllocatedRanges", "ranges");  // overlaps the one before
  ExpectRefused(with(32, 7, 8), "AllocatedRanges", "ranges");  // empty
  ExpectRefused(with(32, kRegionBytesMax / kPageBytesMin + 1, 8), "AllocatedRanges", "ranges");
  EXPECT_TRUE(DecodeMessage(with(24, 5, 8)).ok()) << "touching is allowed";

  AllocatedRanges most;
  for (uint64_t i = 0; i < kRangesPerMessageMax; ++i) most.ranges.push_back({2 * i, 2 * i + 1});
  EXPECT_TRUE(DecodeMessage(Encode(most))->message == Message(most));
}

TEST(CodecTest, StillMissingIsChecked) {
  const std::vector<std::byte> good = Encode(StillMissing{1, {{2, 5}, {7, 9}}});
  auto with = [&](size_t at, uint64_t value, int width) {
    std::vector<std::byte> bytes = good;
    Store(bytes, kMessageHeaderBytes + at, value, width);
    return bytes;
  };
  ExpectRefused(with(0, kRegionsMax, 4), "StillMissing", "region");
  ExpectRefused(with(4, 0xffffffff, 4), "StillMissing", "ranges.count");
  ExpectRefused(with(24, 4, 8), "StillMissing", "ranges");
  std::vector<std::byte> end = Encode(StillMissingEnd{3, false});
  Store(end, kMessageHeaderBytes + 8, 2, 1);
  ExpectRefused(end, "StillMissingEnd", "map_complete");
  Store(end, kMessageHeaderBytes, ~uint64_t{0}, 8);
  ExpectRefused(end, "StillMissingEnd", "missing_pages");
}

TEST(CodecTest, NumbersAndFlagsAreChecked) {
  std::vector<std::byte> end = Encode(AllocationMapEnd{});
  Store(end, kMessageHeaderBytes, ~uint64_t{0}, 8);
  ExpectRefused(end, "AllocationMapEnd", "data_pages");
  std::vector<std::byte> commit = Encode(Commit{});
  Store(commit, kMessageHeaderBytes, 2, 1);
  ExpectRefused(commit, "Commit", "run");
  DeviceState state;
  state.bytes.resize(kDeviceStateChunkBytesMax);
  EXPECT_TRUE(DecodeMessage(Encode(state)).ok());
  std::vector<std::byte> long_state =
      Wrap(9, std::vector<std::byte>(kDeviceStateChunkBytesMax + 1));
  ExpectRefused(long_state, "DeviceState", "payload bytes");
}

TEST(CodecTest, PackedDeviceStateIsShorterThanWhatItUnpacksTo) {
  std::vector<std::byte> packed = Encode(PackedDeviceState{3, std::vector<std::byte>(2)});
  EXPECT_TRUE(DecodeMessage(packed).ok());
  Store(packed, kMessageHeaderBytes, 2, 4);
  ExpectRefused(packed, "PackedDeviceState", "bytes");
  Store(packed, kMessageHeaderBytes, kDeviceStateChunkBytesMax + 1, 4);
  ExpectRefused(packed, "PackedDeviceState", "unpacked_bytes");
  ExpectRefused(Wrap(21, std::vector<std::byte>(4)), "PackedDeviceState", "bytes");
}

TEST(HandshakeTest, VersionsMeetOrBothRangesAreNamed) {
  Hello hello;
  EXPECT_FALSE(RefuseVersion(hello).has_value());
  hello.version_max = 9;
  EXPECT_FALSE(RefuseVersion(hello).has_value()) << "1 is common";
  hello.version_min = 3;
  auto refusal = RefuseVersion(hello);
  ASSERT_TRUE(refusal.has_value());
  EXPECT_EQ(refusal->code, PeerErrorCode::kVersion);
  EXPECT_NE(refusal->text.find("3 to 9"), std::string::npos) << refusal->text;
  EXPECT_NE(refusal->text.find("1 to 1"), std::string::npos) << refusal->text;
}

TEST(HandshakeTest, AStrangerIsKnownByItsFirstBytes) {
  auto greeting = [](const std::vector<std::byte>& bytes) {
    return GreetingBytes(std::span(bytes).first<kMessageHeaderBytes>());
  };
  EXPECT_EQ(greeting(Encode(Hello{})).value(), Encode(Hello{}).size());
  EXPECT_EQ(greeting(Encode(PeerError{PeerErrorCode::kBusy, "x"})).value(),
            Encode(PeerError{PeerErrorCode::kBusy, "x"}).size());
  EXPECT_FALSE(greeting(Encode(Commit{})).ok());
  EXPECT_FALSE(greeting(Wrap(1, std::vector<std::byte>(8192))).ok());
  std::string http = "GET / HT";
  auto bytes = std::as_bytes(std::span(http));
  EXPECT_FALSE(greeting({bytes.begin(), bytes.end()}).ok());
}

}  // namespace
}  // namespace faultline
