#include "transport/tcp/tcp_uri.h"

#include <gtest/gtest.h>

#include <string>

namespace faultline {
namespace {

TEST(TcpUriTest, ReadsNamesAndAddresses) {
  EXPECT_EQ(ParseTcpUri("tcp://192.0.2.7:4444").value(), (TcpUri{"192.0.2.7", 4444}));
  EXPECT_EQ(ParseTcpUri("tcp://host-7.example.com:1").value(), (TcpUri{"host-7.example.com", 1}));
  EXPECT_EQ(ParseTcpUri("tcp://[2001:db8::7]:65535").value(), (TcpUri{"2001:db8::7", 65535}));
  EXPECT_EQ(ParseTcpUri("tcp://[fe80::1%eth0]:5").value(), (TcpUri{"fe80::1%eth0", 5}));
  EXPECT_EQ(ParseTcpUri("tcp://0.0.0.0:0").value(), (TcpUri{"0.0.0.0", 0}));
}

TEST(TcpUriTest, WritesWhatItReads) {
  for (const char* text : {"tcp://192.0.2.7:4444", "tcp://[2001:db8::7]:1", "tcp://localhost:0"}) {
    EXPECT_EQ(ParseTcpUri(text)->text(), text);
  }
}

TEST(TcpUriTest, RefusesWithTheTextTheCauseAndTheForm) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "tcp://"},
      {"192.0.2.7:4444", "does not begin with tcp://"},
      {"rdma://192.0.2.7:4444", "does not begin with tcp://"},
      {"tcp://192.0.2.7", "no port"},
      {"tcp://[::1]", "no port"},
      {"tcp://:4444", "no host"},
      {"tcp://host:", "'' is no port"},
      {"tcp://host:65536", "'65536' is no port"},
      {"tcp://host:-1", "'-1' is no port"},
      {"tcp://host:44x", "'44x' is no port"},
      {"tcp://::1:4444", "stands in brackets"},
      {"tcp://[::1:4444", "bracket"},
      {"tcp://[host]:4444", "'host' is no IPv6 address"},
      {"tcp://ho st:4444", "'ho st' is no host name"},
      {"tcp://host/:4444", "'host/' is no host name"},
  };
  for (const auto& [text, cause] : cases) {
    auto uri = ParseTcpUri(text);
    ASSERT_FALSE(uri.ok()) << text;
    std::string message(uri.status().message());
    EXPECT_TRUE(absl::IsInvalidArgument(uri.status()));
    EXPECT_NE(message.find("'" + std::string(text) + "'"), std::string::npos) << message;
    EXPECT_NE(message.find(cause), std::string::npos) << message;
    EXPECT_NE(message.find("tcp://HOST:PORT"), std::string::npos) << message;
  }
}

TEST(TcpUriTest, KnowsLoopback) {
  for (const char* text : {"tcp://127.0.0.1:1", "tcp://127.9.9.9:1", "tcp://[::1]:1",
                           "tcp://localhost:1", "tcp://[::ffff:127.0.0.1]:1"}) {
    EXPECT_TRUE(IsLoopback(ParseTcpUri(text).value())) << text;
  }
  for (const char* text : {"tcp://0.0.0.0:1", "tcp://[::]:1", "tcp://192.0.2.7:1",
                           "tcp://128.0.0.1:1", "tcp://[2001:db8::7]:1", "tcp://example.com:1",
                           "tcp://localhost.example.com:1", "tcp://[::ffff:10.0.0.1]:1"}) {
    EXPECT_FALSE(IsLoopback(ParseTcpUri(text).value())) << text;
  }
}

}  // namespace
}  // namespace faultline
