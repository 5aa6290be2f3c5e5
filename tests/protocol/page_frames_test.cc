#include <gtest/gtest.h>

#include <array>
#include <random>
#include <string>

#include "base/text.h"
#include "protocol/codec.h"

namespace faultline {
namespace {

const MemoryLayout kLayout = {{"ram", 0x100000, 0x1000}, {"huge", 0x600000, 0x200000}};
constexpr uint64_t kRunBytesMax = 16 * 0x1000;

using FrameBytes = std::array<std::byte, kPageFrameBytes>;
using RequestBytes = std::array<std::byte, kPageRequestBytes>;

FrameBytes Frame(uint32_t kind, PageRun run) {
  FrameBytes bytes;
  EncodePageFrame({static_cast<PageFrameKind>(kind), run}, bytes);
  return bytes;
}

FrameBytes Packed(uint32_t kind, PageRun run, uint16_t algorithm, uint32_t packed_bytes) {
  FrameBytes bytes;
  EncodePageFrame(
      {static_cast<PageFrameKind>(kind), run, static_cast<PackAlgorithm>(algorithm), packed_bytes},
      bytes);
  return bytes;
}

template <size_t N>
std::string Hex(const std::array<std::byte, N>& bytes) {
  return HexEncode({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
}

void ExpectRefused(const FrameBytes& bytes, const std::string& field) {
  auto frame = DecodePageFrame(bytes, kLayout, kRunBytesMax);
  ASSERT_FALSE(frame.ok()) << field << " was taken";
  EXPECT_TRUE(absl::IsInvalidArgument(frame.status()));
  EXPECT_NE(MessageOf(frame.status()).find("'" + field + "'"), std::string::npos) << frame.status();
}

TEST(PageFramesTest, TheWireFormatIsWhatItWas) {
  RequestBytes request;
  EncodePageRequest({{1, 0x0102030405060708}}, request, false);
  EXPECT_EQ(Hex(request), "01000000000000000807060504030201");
  EncodePageRequest({{1, 0x0102030405060708}}, request, true);
  EXPECT_EQ(Hex(request), "010000009ee8295f0807060504030201");
  EXPECT_EQ(Hex(Frame(1, {1, 2, 3})), "010000000100000002000000000000000300000000000000");
  EXPECT_EQ(Hex(Frame(2, {0, 9, 1})), "020000000000000009000000000000000100000000000000");
  EXPECT_EQ(Hex(Frame(3, {})), "030000000000000000000000000000000000000000000000");
  EXPECT_EQ(Hex(Packed(4, {1, 2, 3}, 1, 0x01020304)),
            "040001000100000002000000000000000300000004030201");
  EXPECT_EQ(Hex(Frame(5, {0, 0x1234, 0})), "050000000000000034120000000000000000000000000000");
  EXPECT_EQ(Hex(Frame(6, {0, 0x1234, 0})), "060000000000000034120000000000000000000000000000");
}

TEST(PageFramesTest, AMarkNamesItsRoundAndNoPages) {
  for (uint32_t kind : {5, 6}) {
    ExpectRefused(Frame(kind, {0, 0, 0}), "round");
    ExpectRefused(Frame(kind, {0, kRoundMax + 1, 0}), "round");
    ExpectRefused(Frame(kind, {0, ~uint64_t{0}, 0}), "round");
    ExpectRefused(Frame(kind, {1, 1, 0}), "pages");
    ExpectRefused(Frame(kind, {0, 1, 1}), "pages");
    ExpectRefused(Packed(kind, {0, 1, 0}, 1, 0), "algorithm");
    ExpectRefused(Packed(kind, {0, 1, 0}, 0, 1), "packed bytes");
  }
}

TEST(PageFramesTest, CheckSumsComeBack) {
  std::array<std::byte, kPageDigestBytes> bytes;
  EncodePageDigest(0x0102030405060708, bytes);
  EXPECT_EQ(Hex(bytes), "0807060504030201");
  EXPECT_EQ(DecodePageDigest(bytes), 0x0102030405060708u);
}

TEST(PageFramesTest, ComeBack) {
  RequestBytes request;
  for (bool integrity : {false, true}) {
    EncodePageRequest({{1, 2}}, request, integrity);
    EXPECT_EQ(DecodePageRequest(request, kLayout, integrity).value(), (PageRequest{{1, 2}}));
  }
  for (const PageFrame& frame :
       {PageFrame{PageFrameKind::kData, {0, 240, 16}}, PageFrame{PageFrameKind::kZero, {1, 2, 1}},
        PageFrame{PageFrameKind::kFinished, {}}, PageFrame{PageFrameKind::kRoundBegin, {0, 1, 0}},
        PageFrame{PageFrameKind::kRoundEnd, {0, kRoundMax, 0}},
        PageFrame{PageFrameKind::kPacked, {0, 240, 16}, PackAlgorithm::kLz4, 1},
        PageFrame{PageFrameKind::kPacked, {0, 240, 16}, PackAlgorithm::kLz4, 65535},
        PageFrame{PageFrameKind::kPacked, {0, 240, 16}, PackAlgorithm::kZstd, 1},
        PageFrame{PageFrameKind::kZero, {0, 240, 16}},
        PageFrame{PageFrameKind::kPacked, {1, 0, 1}, PackAlgorithm::kLz4, 70000}}) {
    FrameBytes bytes;
    EncodePageFrame(frame, bytes);
    EXPECT_EQ(DecodePageFrame(bytes, kLayout, kRunBytesMax).value(), frame);
  }
}

TEST(PageFramesTest, WhatTheSourceWritesIsNamedOnTheBulkLaneBesideRdmaOnly) {
  for (const PageFrame& frame : {PageFrame{PageFrameKind::kGrantsWanted, {0, 7, 0}},
                                 PageFrame{PageFrameKind::kWritten, {0, 240, 16}}}) {
    FrameBytes bytes;
    EncodePageFrame(frame, bytes);
    EXPECT_EQ(DecodePageFrame(bytes, kLayout, kRunBytesMax, RdmaFrames::kAccepted).value(), frame);
    for (const RdmaFrames rdma : {RdmaFrames::kRefused, RdmaFrames::kReadable}) {
      EXPECT_NE(
          MessageOf(DecodePageFrame(bytes, kLayout, kRunBytesMax, rdma).status()).find("'kind'"),
          std::string::npos);
    }
  }
  for (const PageFrame& bad : {PageFrame{PageFrameKind::kGrantsWanted, {1, 0, 0}},
                               PageFrame{PageFrameKind::kGrantsWanted, {0, 0, 1}},
                               PageFrame{PageFrameKind::kWritten, {0, 250, 16}},
                               PageFrame{PageFrameKind::kWritten, {0, 0, 0}},
                               PageFrame{PageFrameKind::kWritten, {0, 0, 17}}}) {
    FrameBytes bytes;
    EncodePageFrame(bad, bytes);
    EXPECT_FALSE(DecodePageFrame(bytes, kLayout, kRunBytesMax, RdmaFrames::kAccepted).ok());
  }

  const WriteGrant grant{0x0102030405060708, 0x090a0b0c, 0x0d0e0f10, 0x1112, 0x1314};
  std::array<std::byte, kWriteGrantBytes> granted;
  EncodeWriteGrant(grant, granted);
  EXPECT_EQ(Hex(granted), "08070605040302010c0b0a09100f0e0d12111413");
  EXPECT_EQ(DecodeWriteGrant(granted), grant);
  std::array<std::byte, kWrittenSlotBytes> where;
  EncodeWrittenSlot({0x0102, 0x0304}, where);
  EXPECT_EQ(Hex(where), "02010403");
  EXPECT_EQ(DecodeWrittenSlot(where), (WrittenSlot{0x0102, 0x0304}));
}

TEST(PageFramesTest, ReadablePagesAreNamedBesideRdmaOnly) {
  const PageFrame frame{PageFrameKind::kReadable, {0, 0, 256}};  // longer than a run that is sent
  FrameBytes bytes;
  EncodePageFrame(frame, bytes);
  EXPECT_EQ(DecodePageFrame(bytes, kLayout, kRunBytesMax, RdmaFrames::kReadable).value(), frame);
  const auto refused = DecodePageFrame(bytes, kLayout, kRunBytesMax);
  EXPECT_NE(MessageOf(refused.status()).find("'kind' is 7"), std::string::npos) << refused.status();
  EncodePageFrame({PageFrameKind::kReadable, {0, 1, 256}}, bytes);
  EXPECT_FALSE(DecodePageFrame(bytes, kLayout, kRunBytesMax, RdmaFrames::kReadable).ok());

  const RemotePlace place{0x0102030405060708, 0x090a0b0c, 0x0d0e, 0x0f10};
  std::array<std::byte, kRemotePlaceBytes> where;
  EncodeRemotePlace(place, where);
  EXPECT_EQ(Hex(where), "08070605040302010c0b0a090e0d100f");
  EXPECT_EQ(DecodeRemotePlace(where), place);
}

TEST(PageFramesTest, ARequestIsInsideTheVm) {
  auto refused = [](PageId page, const std::string& field) {
    RequestBytes bytes;
    EncodePageRequest({page}, bytes, false);
    auto request = DecodePageRequest(bytes, kLayout, false);
    return !request.ok() &&
           MessageOf(request.status()).find("'" + field + "'") != std::string::npos;
  };
  EXPECT_FALSE(refused({0, 255}, ""));
  EXPECT_TRUE(refused({0, 256}, "page"));
  EXPECT_TRUE(refused({1, 3}, "page"));
  EXPECT_TRUE(refused({2, 0}, "region"));
  EXPECT_TRUE(refused({0, ~uint64_t{0}}, "page"));
  RequestBytes bytes;
  EncodePageRequest({{0, 0}}, bytes, false);
  bytes[4] = std::byte{1};
  EXPECT_FALSE(DecodePageRequest(bytes, kLayout, false).ok());
}

// Whichever bit it is: it is not answered, with another page or at all.
TEST(PageFramesTest, ARequestThatChangedOnItsWayIsFoundOut) {
  RequestBytes bytes;
  EncodePageRequest({{0, 5}}, bytes, true);
  for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    RequestBytes changed = bytes;
    changed[bit / 8] ^= std::byte{1} << (bit % 8);
    EXPECT_TRUE(absl::IsDataLoss(DecodePageRequest(changed, kLayout, true).status())) << bit;
  }
}

TEST(PageFramesTest, AFrameIsInsideTheVmAndNotTooLong) {
  ExpectRefused(Frame(0, {0, 0, 1}), "kind");
  ExpectRefused(Frame(7, {0, 0, 1}), "kind");
  ExpectRefused(Frame(1, {2, 0, 1}), "region");
  ExpectRefused(Frame(1, {0, 256, 1}), "first page");
  ExpectRefused(Frame(1, {0, 0, 0}), "pages");
  ExpectRefused(Frame(1, {0, 255, 2}), "pages");
  ExpectRefused(Frame(1, {0, 1, ~uint32_t{0}}), "pages");
  ExpectRefused(Frame(1, {0, 0, 17}), "pages");
  ExpectRefused(Frame(1, {1, 0, 2}), "pages");
  EXPECT_TRUE(DecodePageFrame(Frame(1, {1, 0, 1}), kLayout, kRunBytesMax).ok())
      << "one page of any size is a run";
  ExpectRefused(Frame(3, {0, 0, 1}), "pages");
}

TEST(PageFramesTest, PackingIsNamedAndSavesBytes) {
  constexpr uint32_t kRunBytes = 16 * 0x1000;
  ExpectRefused(Packed(4, {0, 0, 16}, 0, 100), "algorithm");
  ExpectRefused(Packed(4, {0, 0, 16}, 3, 100), "algorithm");
  ExpectRefused(Packed(4, {0, 0, 16}, 1, 0), "packed bytes");
  ExpectRefused(Packed(4, {0, 0, 16}, 1, kRunBytes), "packed bytes");
  ExpectRefused(Packed(4, {0, 0, 16}, 1, ~uint32_t{0}), "packed bytes");
  ExpectRefused(Packed(4, {0, 0, 17}, 1, 100), "pages");
  ExpectRefused(Packed(4, {0, 250, 16}, 1, 100), "pages");
  for (uint32_t kind : {1, 2}) {
    ExpectRefused(Packed(kind, {0, 0, 16}, 1, 0), "algorithm");
    ExpectRefused(Packed(kind, {0, 0, 16}, 0, 100), "packed bytes");
  }
  ExpectRefused(Packed(3, {}, 1, 0), "algorithm");
  ExpectRefused(Packed(3, {}, 0, 1), "packed bytes");
}

TEST(PageFramesTest, RandomBytesNeverGiveARunOutsideTheVm) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 100000; ++round) {
    const uint32_t kind = 1 + random() % 6;
    const PageRun run = {static_cast<RegionIndex>(random() % 3), random() % 300, random() % 20};
    FrameBytes bytes = kind == 4 ? Packed(kind, run, 1, random() % 0x20000) : Frame(kind, run);
    if (random() % 2 == 0) bytes[random() % bytes.size()] = static_cast<std::byte>(random());
    auto frame = DecodePageFrame(bytes, kLayout, kRunBytesMax);
    if (!frame.ok() || !HasPages(frame->kind)) continue;
    ASSERT_LT(frame->run.region, kLayout.size());
    const RegionLayout& region = kLayout[frame->run.region];
    ASSERT_GT(frame->run.count, 0u);
    ASSERT_LE(frame->run.end(), region.page_count());
    const uint64_t run_bytes = frame->run.count * region.page_size_bytes;
    ASSERT_TRUE(frame->run.count == 1 || run_bytes <= kRunBytesMax);
    ASSERT_LT(frame->packed_bytes, run_bytes);
    ASSERT_EQ(frame->packed_bytes != 0, frame->kind == PageFrameKind::kPacked);
  }
}

}  // namespace
}  // namespace faultline
