#include "protocol/handshake.h"

#include <fmt/format.h>

#include "protocol/wire_bytes.h"

namespace faultline {

absl::StatusOr<size_t> GreetingBytes(std::span<const std::byte, kMessageHeaderBytes> header) {
  constexpr uint64_t kGreetingBytesMax = kErrorTextBytesMax + 64;
  uint64_t type = LoadLittleEndian(header.subspan(0, 2));
  uint64_t payload_bytes = LoadLittleEndian(header.subspan(4, 4));
  if (BeginsTls(header)) {
    return absl::InvalidArgumentError(
        "the peer speaks TLS, and this side does not; give both sides --tls-dir or --tls-psk, or "
        "both --insecure if the network is trusted");
  }
  if (type == 0 || type > 3 || payload_bytes > kGreetingBytesMax) {
    return absl::InvalidArgumentError(
        fmt::format("the peer is not Faultline: its first message has type {} and {} bytes", type,
                    payload_bytes));
  }
  return kMessageHeaderBytes + payload_bytes;
}

bool BeginsTls(std::span<const std::byte, kMessageHeaderBytes> header) {
  // Change cipher spec, alert, handshake, application data; then the major version.
  return header[0] >= std::byte{0x14} && header[0] <= std::byte{0x17} && header[1] == std::byte{3};
}

bool SameToken(const SessionToken& a, const SessionToken& b) {
  // Volatile, so that the compiler does not end the loop early.
  volatile uint8_t different = 0;
  for (size_t i = 0; i < a.size(); ++i) different = different | (a[i] ^ b[i]);
  return different == 0;
}

std::optional<PeerError> RefuseVersion(const Hello& hello) {
  if (hello.version_min <= kProtocolVersionMax && hello.version_max >= kProtocolVersionMin) {
    return std::nullopt;
  }
  return PeerError{
      PeerErrorCode::kVersion,
      fmt::format("no common protocol version: the source speaks {} to {}, the "
                  "destination {} to {}; install the same Faultline on both hosts",
                  hello.version_min, hello.version_max, kProtocolVersionMin, kProtocolVersionMax)};
}

absl::StatusOr<bool> AgreeOnIntegrity(IntegrityWish source, IntegrityWish destination) {
  const bool source_cannot = source == IntegrityWish::kCannot;
  const bool can = !source_cannot && destination != IntegrityWish::kCannot;
  if (source == IntegrityWish::kOn || destination == IntegrityWish::kOn) {
    if (can) return true;
    return absl::FailedPreconditionError(fmt::format(
        "the {} asks for pages that are checked end to end (--integrity on), which the {} cannot: "
        "install the same Faultline on both hosts, or leave --integrity away",
        source_cannot ? "destination" : "source", source_cannot ? "source" : "destination"));
  }
  if (source == IntegrityWish::kOff || destination == IntegrityWish::kOff) return false;
  return can && kIntegrityByDefault;
}

absl::Status StatusOfPeerError(const PeerError& error) {
  std::string text = "the peer refused: " + error.text;
  switch (error.code) {
    case PeerErrorCode::kBusy:
      return absl::UnavailableError(text);
    case PeerErrorCode::kToken:
      return absl::PermissionDeniedError(text);
    case PeerErrorCode::kBadMessage:
      return absl::InvalidArgumentError(text);
    case PeerErrorCode::kVersion:
    case PeerErrorCode::kPrepare:
      return absl::FailedPreconditionError(text);
    case PeerErrorCode::kCancelled:
      return absl::CancelledError(text);
    case PeerErrorCode::kTimeout:
      return absl::DeadlineExceededError(text);
    case PeerErrorCode::kMemory:
      return absl::ResourceExhaustedError(text);
    case PeerErrorCode::kVmm:
    case PeerErrorCode::kInternal:
      return absl::InternalError(text);
  }
  return absl::InternalError(text);
}

}  // namespace faultline
