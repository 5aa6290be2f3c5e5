#include "transport/rdma/rdma_greeting.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/check.h"
#include "protocol/wire_bytes.h"

namespace faultline {
namespace {

constexpr uint32_t kMagic = 0x52'4c'54'46;  // "FTLR"
constexpr size_t kHalfBytes = 8;
constexpr uint64_t kMtuMin = 8;
constexpr uint64_t kMtuMax = 12;

std::span<const uint8_t> HalfOf(RdmaEnd end, const SessionToken& token) {
  return std::span(token).subspan(end == RdmaEnd::kSource ? 0 : kHalfBytes, kHalfBytes);
}

}  // namespace

RdmaGreeting MakeRdmaGreeting(RdmaEnd end, ConnectionRole role, const SessionToken& token,
                              uint32_t mtu_bytes, uint8_t rails, bool writes) {
  RdmaGreeting greeting{};
  std::span<std::byte> bytes(greeting);
  StoreLittleEndian(kMagic, bytes.subspan(0, 4));
  StoreLittleEndian(kRdmaVersion, bytes.subspan(4, 2));
  StoreLittleEndian(static_cast<uint8_t>(role), bytes.subspan(6, 1));
  const auto mtu = static_cast<uint8_t>(mtu_bytes == 0 ? 0 : std::countr_zero(mtu_bytes));
  StoreLittleEndian(mtu, bytes.subspan(7, 1));
  std::memcpy(greeting.data() + 8, HalfOf(end, token).data(), kHalfBytes);
  StoreLittleEndian(rails, bytes.subspan(16, 1));
  StoreLittleEndian(writes ? 1 : 0, bytes.subspan(17, 1));
  return greeting;
}

SessionToken RailToken(const SessionToken& lane, const SessionToken& migration, size_t rail) {
  if (rail == 0) return lane;
  std::array<uint8_t, std::tuple_size_v<SessionToken> + 1> said;
  std::ranges::copy(lane, said.begin());
  said.back() = static_cast<uint8_t>(rail);
  std::array<uint8_t, EVP_MAX_MD_SIZE> code;
  FAULTLINE_CHECK(HMAC(EVP_sha256(), migration.data(), static_cast<int>(migration.size()),
                       said.data(), said.size(), code.data(), nullptr) != nullptr);
  SessionToken token;
  std::copy_n(code.begin(), token.size(), token.begin());
  return token;
}

std::optional<RdmaGreetingHead> ReadRdmaGreeting(std::span<const std::byte> private_data) {
  if (private_data.size() < kRdmaGreetingBytesMin ||
      LoadLittleEndian(private_data.subspan(0, 4)) != kMagic) {
    return std::nullopt;
  }
  const uint64_t mtu = LoadLittleEndian(private_data.subspan(7, 1));
  const auto later = [&](size_t at) {
    return at < private_data.size() ? static_cast<uint8_t>(private_data[at]) : uint8_t{0};
  };
  return RdmaGreetingHead{static_cast<uint16_t>(LoadLittleEndian(private_data.subspan(4, 2))),
                          static_cast<ConnectionRole>(LoadLittleEndian(private_data.subspan(6, 1))),
                          mtu >= kMtuMin && mtu <= kMtuMax ? uint32_t{1} << mtu : 0,
                          std::max<uint8_t>(later(16), 1), later(17) == 1};
}

bool ProvesToken(std::span<const std::byte> private_data, RdmaEnd end, const SessionToken& token) {
  if (private_data.size() < kRdmaGreetingBytesMin) return false;
  const std::span<const uint8_t> half = HalfOf(end, token);
  // Volatile, so that the compiler does not end the loop early.
  volatile uint8_t different = 0;
  for (size_t i = 0; i < kHalfBytes; ++i) {
    different = different | (static_cast<uint8_t>(private_data[8 + i]) ^ half[i]);
  }
  return different == 0;
}

}  // namespace faultline
