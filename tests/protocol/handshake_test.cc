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

TEST(HandshakeTest, IntegrityIsOnIfEitherAsksForIt) {
  using enum IntegrityWish;
  struct Case {
    IntegrityWish source, destination;
    bool agreed;
  };
  for (const Case& wish :
       {Case{kOn, kOn, true}, Case{kOn, kDefault, true}, Case{kOn, kOff, true},
        Case{kOff, kOn, true}, Case{kDefault, kOn, true}, Case{kOff, kOff, false},
        Case{kOff, kDefault, false}, Case{kDefault, kOff, false},
        Case{kDefault, kDefault, kIntegrityByDefault}, Case{kCannot, kDefault, false},
        Case{kCannot, kOff, false}, Case{kDefault, kCannot, false}}) {
    auto agreed = AgreeOnIntegrity(wish.source, wish.destination);
    ASSERT_TRUE(agreed.ok()) << agreed.status();
    EXPECT_EQ(*agreed, wish.agreed)
        << static_cast<int>(wish.source) << " " << static_cast<int>(wish.destination);
  }
}

TEST(HandshakeTest, APeerThatCannotCheckIsRefusedWhereItIsAskedFor) {
  absl::Status refused = AgreeOnIntegrity(IntegrityWish::kCannot, IntegrityWish::kOn).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused));
  EXPECT_NE(MessageOf(refused).find("the destination asks"), std::string::npos) << refused;
  EXPECT_NE(MessageOf(refused).find("--integrity"), std::string::npos) << refused;
  refused = AgreeOnIntegrity(IntegrityWish::kOn, IntegrityWish::kCannot).status();
  EXPECT_NE(MessageOf(refused).find("the source asks"), std::string::npos) << refused;
}

}  // namespace
}  // namespace faultline
