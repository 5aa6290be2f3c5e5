// Fuzz target: the private data of an RDMA connection, as a peer or a stranger sends it. Input: a
// token, then the private data.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "fuzz_input.h"
#include "transport/rdma/rdma_greeting.h"

namespace faultline {
namespace {

constexpr size_t kTokenHalfBytes = 8;

void CheckHead(std::span<const std::byte> data) {
  const auto head = ReadRdmaGreeting(data);
  if (data.size() < kRdmaGreetingBytesMin) {
    FAULTLINE_CHECK(!head.has_value());
    return;
  }
  // What follows is padding and changes nothing.
  const auto bare = ReadRdmaGreeting(data.first(std::min(data.size(), kRdmaGreetingBytes)));
  FAULTLINE_CHECK(bare.has_value() == head.has_value());
  if (!head) return;
  FAULTLINE_CHECK(bare->version == head->version && bare->role == head->role &&
                  bare->mtu_bytes == head->mtu_bytes && bare->rails == head->rails &&
                  bare->writes == head->writes);
  FAULTLINE_CHECK(head->rails >= 1);
  FAULTLINE_CHECK(head->mtu_bytes == 0 || (head->mtu_bytes >= 256 && head->mtu_bytes <= 4096));
  if (head->version != kRdmaVersion) return;
  const auto again = ReadRdmaGreeting(MakeRdmaGreeting(RdmaEnd::kSource, head->role, SessionToken{},
                                                       head->mtu_bytes, head->rails, head->writes));
  FAULTLINE_CHECK(again && again->version == head->version && again->role == head->role &&
                  again->mtu_bytes == head->mtu_bytes && again->rails == head->rails &&
                  again->writes == head->writes);
}

void CheckProof(std::span<const std::byte> data, const SessionToken& token) {
  for (const RdmaEnd end : {RdmaEnd::kSource, RdmaEnd::kDestination}) {
    const auto real = MakeRdmaGreeting(end, ConnectionRole::kDemand, token);
    const bool shows =
        data.size() >= kRdmaGreetingBytesMin &&
        std::ranges::equal(
            data.subspan(kRdmaGreetingBytesMin - kTokenHalfBytes, kTokenHalfBytes),
            std::span(real).subspan(kRdmaGreetingBytesMin - kTokenHalfBytes, kTokenHalfBytes));
    FAULTLINE_CHECK(ProvesToken(data, end, token) == shows);
  }
}

}  // namespace
}  // namespace faultline

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  faultline::FuzzInput input(data, size);
  faultline::SessionToken token{};
  std::ranges::copy(input.Bytes(token.size()), token.begin());
  const auto private_data = std::as_bytes(input.Rest());
  faultline::CheckHead(private_data);
  faultline::CheckProof(private_data, token);
  return 0;
}
