#include "transport/rdma/rail_places.h"

#include <gtest/gtest.h>

#include "transport/rdma/readable_frame.h"

namespace faultline {
namespace {

const MemoryLayout kLayout = {{"ram", 1000 * 4096, 4096}};

class RailPlacesTest : public ::testing::Test {
 protected:
  // Of one device all, of the other not pages 50 to 59, and from page 150 on in another stretch.
  void SetUp() override {
    ASSERT_TRUE(first_.Add({0, 0, 200}, {0x100000, 7}).ok());
    ASSERT_TRUE(second_.Add({0, 0, 50}, {0x900000, 8}).ok());
    ASSERT_TRUE(second_.Add({0, 60, 90}, {0x900000 + 60 * 4096, 8}).ok());
    ASSERT_TRUE(second_.Add({0, 150, 50}, {0xa00000, 9}).ok());
  }
  RailBeginning Beginning(const PageRun& run) const {
    const std::vector<RailReadable> rails = {{0, &first_}, {2, &second_}};
    return BeginningOnRails(rails, run);
  }

  ReadablePages first_{kLayout};
  ReadablePages second_{kLayout};
};

TEST_F(RailPlacesTest, ARunBeginsAsFarAsOneStretchGoesOnEveryRail) {
  const RailBeginning beginning = Beginning({0, 140, 30});
  EXPECT_EQ(beginning.pages, 10u);
  ASSERT_EQ(beginning.places.all().size(), 2u);
  EXPECT_EQ(beginning.places.On(0), (RemotePlace{0x100000 + 140 * 4096, 7, 0}));
  EXPECT_EQ(beginning.places.On(2), (RemotePlace{0x900000 + 140 * 4096, 8, 2}));
  EXPECT_FALSE(beginning.places.On(1).has_value());
  const std::vector<RailReadable> other_way_round = {{2, &second_}, {0, &first_}};
  EXPECT_EQ(BeginningOnRails(other_way_round, {0, 140, 30}).pages, 10u);
}

TEST_F(RailPlacesTest, WhatOneRailCannotReadHasNoPlace) {
  const RailBeginning hole = Beginning({0, 52, 100});
  EXPECT_TRUE(hole.places.empty());
  EXPECT_EQ(hole.pages, 8u);
  EXPECT_EQ(Beginning({0, 45, 100}).pages, 5u);
  EXPECT_TRUE(Beginning({0, 500, 10}).places.empty());
}

TEST_F(RailPlacesTest, AFrameSaysThemAllAndHowManyFollow) {
  std::vector<std::byte> frame;
  AppendReadableFrame({0, 60, 20}, Beginning({0, 60, 20}).places, &frame);
  ASSERT_EQ(frame.size(), kPageFrameBytes + 2 * kRemotePlaceBytes);
  const std::span<const std::byte> bytes(frame);
  EXPECT_EQ(ReadableFrameBytes(bytes.first(kPageFrameBytes)).value(),
            kPageFrameBytes + kRemotePlaceBytes);
  EXPECT_EQ(ReadableFrameBytes(bytes.first(kPageFrameBytes + kRemotePlaceBytes)).value(),
            frame.size());
  const auto places = DecodeRailPlaces(bytes);
  ASSERT_TRUE(places.ok()) << places.status();
  EXPECT_EQ(places->On(0)->address, 0x100000u + 60 * 4096);
  EXPECT_EQ(places->On(2)->key, 8u);
}

TEST_F(RailPlacesTest, OfOneRailTheFrameIsWhatItWasBeforeThereWereRails) {
  std::vector<std::byte> frame;
  const std::vector<RailReadable> rails = {{0, &first_}};
  AppendReadableFrame({0, 3, 4}, BeginningOnRails(rails, {0, 3, 4}).places, &frame);
  const ReadableFrame before = EncodeReadableFrame({0, 3, 4}, {0x100000 + 3 * 4096, 7});
  EXPECT_TRUE(std::ranges::equal(frame, before));
}

TEST_F(RailPlacesTest, BytesOfThePeersAreChecked) {
  const auto frame_of = [](const std::vector<RemotePlace>& places) {
    std::vector<std::byte> frame(kPageFrameBytes);
    for (const RemotePlace& place : places) {
      std::array<std::byte, kRemotePlaceBytes> bytes;
      EncodeRemotePlace(place, bytes);
      frame.insert(frame.end(), bytes.begin(), bytes.end());
    }
    return frame;
  };
  const auto names = [](const absl::Status& status, const char* field) {
    return MessageOf(status).find(field) != std::string::npos;
  };
  EXPECT_TRUE(names(ReadableFrameBytes(frame_of({{1, 2, 0, kRdmaRailsMax}})).status(), "'more'"));
  EXPECT_TRUE(
      names(DecodeRailPlaces(frame_of({{1, 2, 0, 1}, {1, 2, 0, 0}})).status(), "'rail' is 0"));
  EXPECT_TRUE(names(DecodeRailPlaces(frame_of({{1, 2, 0, 1}, {1, 2, 1, 5}})).status(), "'more'"));
  EXPECT_TRUE(DecodeRailPlaces(frame_of({{1, 2, 0, 1}, {1, 2, 1, 0}})).ok());
}

}  // namespace
}  // namespace faultline
