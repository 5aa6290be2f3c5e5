#include "hook/request_parser.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <vector>

#include "hook/raw_hook.h"

namespace faultline {
namespace {

constexpr size_t kFirstRegion = sizeof(HookHeader) + sizeof(HookArm);

struct Parsed {
  HookStatus status;
  uint64_t detail;
  HookRequest request;
};

Parsed Parse(const std::vector<uint8_t>& bytes) {
  Parsed parsed{};
  parsed.status = HookParseRequest(bytes.data(), bytes.size(), &parsed.request, &parsed.detail);
  return parsed;
}

HookRegion GoodRegion(uint64_t inode) {
  return {.device_major = 0,
          .device_minor = 25,
          .inode = inode,
          .file_offset = 4096,
          .size = 8192,
          .page_size = 4096,
          .reserved = 0};
}

void ExpectBadField(const HookRegion& region, size_t field) {
  Parsed parsed = Parse(MakeArm(0, 0, {region}));
  EXPECT_EQ(parsed.status, kHookStatusBadRequest);
  EXPECT_EQ(parsed.detail, kFirstRegion + field);
}

TEST(RequestParserTest, ReadsAnArm) {
  Parsed parsed = Parse(MakeArm(kHookArmHasDevice, 0x123, {GoodRegion(7), GoodRegion(8)}));
  ASSERT_EQ(parsed.status, kHookStatusOk);
  EXPECT_EQ(parsed.request.header.type, kHookTypeArm);
  EXPECT_EQ(parsed.request.arm.region_count, 2u);
  EXPECT_EQ(parsed.request.arm.features, 0x123u);
  EXPECT_EQ(parsed.request.regions[1].inode, 8u);
  EXPECT_EQ(parsed.request.regions[1].size, 8192u);
}

TEST(RequestParserTest, ATrackIsReadAsAnArm) {
  std::vector<uint8_t> bytes = MakeArm(kHookArmHasDevice, 0xb001, {GoodRegion(7)});
  bytes[6] = kHookTypeTrack;
  Parsed parsed = Parse(bytes);
  ASSERT_EQ(parsed.status, kHookStatusOk);
  EXPECT_EQ(parsed.request.header.type, kHookTypeTrack);
  EXPECT_EQ(parsed.request.arm.features, 0xb001u);
  EXPECT_EQ(parsed.request.regions[0].inode, 7u);
  bytes.pop_back();
  EXPECT_EQ(Parse(bytes).status, kHookStatusBadRequest);
  EXPECT_EQ(Parse(MakeMessage(1, kHookTypeUntrack)).status, kHookStatusOk);
}

TEST(RequestParserTest, AcceptsTheMostRegions) {
  std::vector<HookRegion> regions;
  for (uint64_t i = 0; i < HOOK_REGIONS_MAX; ++i) regions.push_back(GoodRegion(i));
  EXPECT_EQ(Parse(MakeArm(0, 0, regions)).status, kHookStatusOk);
  EXPECT_EQ(MakeArm(0, 0, regions).size(), HOOK_REQUEST_BYTES_MAX);
  regions.push_back(GoodRegion(HOOK_REGIONS_MAX));
  EXPECT_EQ(Parse(MakeArm(0, 0, regions)).status, kHookStatusBadRequest);
}

TEST(RequestParserTest, NamesTheFieldThatIsWrong) {
  HookRegion region = GoodRegion(1);
  region.page_size = 4095;
  ExpectBadField(region, offsetof(HookRegion, page_size));
  region = GoodRegion(1);
  region.page_size = 6000;
  ExpectBadField(region, offsetof(HookRegion, page_size));
  region = GoodRegion(1);
  region.file_offset = 1;
  ExpectBadField(region, offsetof(HookRegion, file_offset));
  region = GoodRegion(1);
  region.size = 0;
  ExpectBadField(region, offsetof(HookRegion, size));
  region = GoodRegion(1);
  region.size = UINT64_MAX - 4095;
  ExpectBadField(region, offsetof(HookRegion, size));
  region = GoodRegion(1);
  region.reserved = 1;
  ExpectBadField(region, offsetof(HookRegion, reserved));
}

TEST(RequestParserTest, RefusesOverlappingRegions) {
  HookRegion second = GoodRegion(1);
  second.file_offset = 8192;
  EXPECT_EQ(Parse(MakeArm(0, 0, {GoodRegion(1), second})).status, kHookStatusBadRequest);
  second.file_offset = 12288;
  EXPECT_EQ(Parse(MakeArm(0, 0, {GoodRegion(1), second})).status, kHookStatusOk);
}

TEST(RequestParserTest, RefusesEveryCutOfAMessage) {
  std::vector<uint8_t> whole = MakeArm(0, 0, {GoodRegion(1)});
  for (size_t length = 0; length < whole.size(); ++length) {
    std::vector<uint8_t> cut(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(length));
    EXPECT_EQ(Parse(cut).status, kHookStatusBadRequest) << length;
    if (length < sizeof(HookHeader)) continue;
    // Also when its header agrees with the cut.
    cut[offsetof(HookHeader, length)] = static_cast<uint8_t>(length);
    EXPECT_EQ(Parse(cut).status, kHookStatusBadRequest) << length;
  }
}

TEST(RequestParserTest, NamesUnknownTypesAndFlags) {
  Parsed parsed = Parse(MakeMessage(1, 77));
  EXPECT_EQ(parsed.status, kHookStatusUnsupported);
  EXPECT_EQ(parsed.detail, 77u);
  parsed = Parse(MakeArm(0x80, 0, {GoodRegion(1)}));
  EXPECT_EQ(parsed.status, kHookStatusUnsupported);
  EXPECT_EQ(Parse(MakeMessage(1, kHookTypeNone)).status, kHookStatusUnsupported);
}

// What the released versions put on the wire, byte by byte: never to change.
TEST(RequestParserTest, WireBytesAreFrozen) {
  std::vector<uint8_t> ping = MakeMessage(1, kHookTypePing);
  std::vector<uint8_t> expected = {'F', 'L', 'H', 'K', 1, 0, 5, 0, 32, 0, 0, 0, 7, 0, 0, 0};
  expected.resize(32);
  EXPECT_EQ(ping, expected);
  std::vector<uint8_t> arm = MakeArm(1, 0x0102, {GoodRegion(0x0304)});
  EXPECT_EQ(arm.size(), 96u);
  EXPECT_EQ(arm[6], 2);   // type ARM
  EXPECT_EQ(arm[32], 1);  // region_count
  EXPECT_EQ(arm[36], 1);  // flags
  EXPECT_EQ(arm[40], 2);  // features
  EXPECT_EQ(arm[41], 1);
  EXPECT_EQ(arm[52], 25);  // device_minor
  EXPECT_EQ(arm[56], 4);   // inode
  EXPECT_EQ(arm[57], 3);
  EXPECT_EQ(arm[65], 0x10);  // file_offset
  EXPECT_EQ(arm[73], 0x20);  // size
  EXPECT_EQ(arm[81], 0x10);  // page_size
  EXPECT_EQ(kHookTypeTrack, 6);
  EXPECT_EQ(kHookTypeUntrack, 7);
  EXPECT_EQ(kHookTypeInspect, 8);
}

}  // namespace
}  // namespace faultline
