#include "protocol/handshake.h"

#include <gtest/gtest.h>

#include <array>

namespace faultline {
namespace {

std::array<std::byte, kMessageHeaderBytes> Header(std::initializer_list<int> bytes) {
  std::array<std::byte, kMessageHeaderBytes> header{};
  size_t at = 0;
  for (int byte : bytes) header[at++] = static_cast<std::byte>(byte);
  return header;
}

TEST(HandshakeTest, TlsIsRecognisedByItsFirstRecord) {
  EXPECT_TRUE(BeginsTls(Header({0x16, 3, 1, 2, 0, 1})));  // ClientHello
  EXPECT_TRUE(BeginsTls(Header({0x15, 3, 3, 0, 2, 2})));  // alert
  EXPECT_FALSE(BeginsTls(Header({1, 0, 0, 0, 44})));      // Hello
  EXPECT_FALSE(BeginsTls(Header({0x16, 0, 0, 0, 44})));
  EXPECT_FALSE(BeginsTls(Header({'G', 'E', 'T', ' '})));
  const absl::Status status = GreetingBytes(Header({0x16, 3, 1, 2, 0, 1})).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  for (const char* word : {"speaks TLS", "--tls-dir", "--insecure"}) {
    EXPECT_NE(MessageOf(status).find(word), std::string::npos) << status;
  }
}

TEST(HandshakeTest, TokensDifferInAnyBit) {
  SessionToken token;
  for (size_t i = 0; i < token.size(); ++i) token[i] = static_cast<uint8_t>(i * 37);
  EXPECT_TRUE(SameToken(token, SessionToken(token)));
  for (size_t bit = 0; bit < token.size() * 8; ++bit) {
    SessionToken other = token;
    other[bit / 8] = static_cast<uint8_t>(other[bit / 8] ^ (1 << bit % 8));
    EXPECT_FALSE(SameToken(token, other)) << bit;
  }
}

}  // namespace
}  // namespace faultline
