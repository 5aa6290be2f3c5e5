#include "transport/rdma/rdma_greeting.h"

#include <gtest/gtest.h>

namespace faultline {
namespace {

constexpr SessionToken kToken = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

TEST(RdmaGreetingTest, ThePacketsOfOneEndAreKnownToTheOther) {
  for (const uint32_t mtu : {0u, 256u, 1024u, 4096u}) {
    const RdmaGreeting greeting =
        MakeRdmaGreeting(RdmaEnd::kSource, ConnectionRole::kBulk, SessionToken{}, mtu);
    EXPECT_EQ(ReadRdmaGreeting(greeting)->mtu_bytes, mtu);
  }
  RdmaGreeting greeting = MakeRdmaGreeting(RdmaEnd::kSource, ConnectionRole::kBulk, {});
  for (const int power : {1, 7, 13, 32, 255}) {
    greeting[7] = static_cast<std::byte>(power);
    EXPECT_EQ(ReadRdmaGreeting(greeting)->mtu_bytes, 0u) << power;
  }
}

TEST(RdmaGreetingTest, EachEndShowsItsHalf) {
  const RdmaGreeting source = MakeRdmaGreeting(RdmaEnd::kSource, ConnectionRole::kBulk, kToken);
  const RdmaGreeting answer =
      MakeRdmaGreeting(RdmaEnd::kDestination, ConnectionRole::kBulk, kToken);
  EXPECT_TRUE(ProvesToken(source, RdmaEnd::kSource, kToken));
  EXPECT_TRUE(ProvesToken(answer, RdmaEnd::kDestination, kToken));
  // Sending back what came proves nothing.
  EXPECT_FALSE(ProvesToken(source, RdmaEnd::kDestination, kToken));
  const auto head = ReadRdmaGreeting(source);
  ASSERT_TRUE(head.has_value());
  EXPECT_EQ(head->version, kRdmaVersion);
  EXPECT_EQ(head->role, ConnectionRole::kBulk);
}

TEST(RdmaGreetingTest, AnyOtherBitIsAnotherToken) {
  const RdmaGreeting source = MakeRdmaGreeting(RdmaEnd::kSource, ConnectionRole::kDemand, kToken);
  for (size_t bit = 0; bit < 64; ++bit) {
    SessionToken other = kToken;
    other[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    EXPECT_FALSE(ProvesToken(source, RdmaEnd::kSource, other)) << bit;
  }
}

TEST(RdmaGreetingTest, ThePeersRailsAreOneIfItKnowsOfNone) {
  const RdmaGreeting answer =
      MakeRdmaGreeting(RdmaEnd::kDestination, ConnectionRole::kBulk, kToken, 0, 3);
  EXPECT_EQ(ReadRdmaGreeting(answer)->rails, 3u);
  EXPECT_EQ(ReadRdmaGreeting(std::span(answer).first(kRdmaGreetingBytesMin))->rails, 1u);
  EXPECT_EQ(
      ReadRdmaGreeting(MakeRdmaGreeting(RdmaEnd::kSource, ConnectionRole::kBulk, kToken))->rails,
      1u);
}

TEST(RdmaGreetingTest, APeerThatKnowsOfNoWritesSaysNone) {
  RdmaGreeting said = MakeRdmaGreeting(RdmaEnd::kSource, ConnectionRole::kBulk, kToken, 0, 0, true);
  EXPECT_TRUE(ReadRdmaGreeting(said)->writes);
  EXPECT_FALSE(ReadRdmaGreeting(std::span(said).first(17))->writes);
  said[17] = std::byte{2};
  EXPECT_FALSE(ReadRdmaGreeting(said)->writes) << "what means nothing here is no wish";
  EXPECT_FALSE(
      ReadRdmaGreeting(MakeRdmaGreeting(RdmaEnd::kSource, ConnectionRole::kBulk, kToken))->writes);
}

TEST(RdmaGreetingTest, EachRailHasATokenThatTheOthersDoNotTell) {
  const SessionToken migration = {42};
  EXPECT_EQ(RailToken(kToken, migration, 0), kToken);
  const SessionToken first = RailToken(kToken, migration, 1);
  EXPECT_NE(first, kToken);
  EXPECT_NE(first, RailToken(kToken, migration, 2));
  EXPECT_NE(first, RailToken(kToken, SessionToken{43}, 1)) << "the migration's token is in it";
  EXPECT_NE(first, RailToken(SessionToken{1}, migration, 1)) << "the lane's token is in it";
  EXPECT_EQ(first, RailToken(kToken, migration, 1));
}

TEST(RdmaGreetingTest, TransportsMayPadButNotCut) {
  const RdmaGreeting source = MakeRdmaGreeting(RdmaEnd::kSource, ConnectionRole::kDemand, kToken);
  std::array<std::byte, 56> padded{};
  std::copy(source.begin(), source.end(), padded.begin());
  EXPECT_TRUE(ReadRdmaGreeting(padded).has_value());
  EXPECT_TRUE(ProvesToken(padded, RdmaEnd::kSource, kToken));
  const auto cut = std::span(source).first(kRdmaGreetingBytesMin - 1);
  EXPECT_FALSE(ReadRdmaGreeting(cut).has_value());
  EXPECT_FALSE(ProvesToken(cut, RdmaEnd::kSource, kToken));
  EXPECT_FALSE(ReadRdmaGreeting(std::array<std::byte, 56>{}).has_value());
}

}  // namespace
}  // namespace faultline
