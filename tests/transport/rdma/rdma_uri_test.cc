#include "transport/rdma/rdma_uri.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <tuple>

namespace faultline {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(RdmaUriTest, OneRailOrSeveral) {
  const auto one = ParseRdmaUri("rdma://host:4444");
  ASSERT_TRUE(one.ok()) << one.status();
  EXPECT_EQ(one->first, (TcpUri{"host", 4444}));
  EXPECT_THAT(one->rails, IsEmpty());
  const auto three =
      ParseRdmaUri("rdma://192.0.2.7:4444,rdma://198.51.100.7,rdma://[2001:db8::7]:5");
  ASSERT_TRUE(three.ok()) << three.status();
  EXPECT_EQ(three->first, (TcpUri{"192.0.2.7", 4444}));
  EXPECT_THAT(three->rails, ElementsAre(TcpUri{"198.51.100.7", 0}, TcpUri{"2001:db8::7", 5}));
  const auto v6 = ParseRdmaUri("rdma://[2001:db8::7]:5,rdma://[2001:db8::8]");
  ASSERT_TRUE(v6.ok()) << v6.status();
  EXPECT_THAT(v6->rails, ElementsAre(TcpUri{"2001:db8::8", 0}));
}

TEST(RdmaUriTest, WhatMakesNoSenseIsNamed) {
  const std::vector<std::tuple<std::string, const char*>> cases = {
      {"rdma://192.0.2.7", "no port"},
      {"rdma://192.0.2.7,rdma://192.0.2.8:5", "no port"},
      {"rdma://192.0.2.7:5,192.0.2.8", "'192.0.2.8' does not begin with rdma://"},
      {"rdma://192.0.2.7:5,tcp://192.0.2.8:5", "does not begin with rdma://"},
      {"rdma://192.0.2.7:5,", "'' does not begin with rdma://"},
      {"rdma://192.0.2.7:5,rdma://192.0.2.8:x", "'x' is no port"},
      {"rdma://192.0.2.7:5,rdma://192.0.2.7:5", "names 192.0.2.7:5 twice"},
      {"rdma://192.0.2.7:1,rdma://h1,rdma://h2,rdma://h3,rdma://h4,rdma://h5,rdma://h6,rdma://h7,"
       "rdma://h8",
       "names 9 rails, and there may be 8"},
  };
  for (const auto& [text, word] : cases) {
    const auto uri = ParseRdmaUri(text);
    EXPECT_TRUE(absl::IsInvalidArgument(uri.status())) << text << ": " << uri.status();
    EXPECT_THAT(MessageOf(uri.status()), HasSubstr(word));
  }
}

}  // namespace
}  // namespace faultline
