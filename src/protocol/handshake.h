// The rules of the first message of a connection. Pure.
#ifndef FAULTLINE_PROTOCOL_HANDSHAKE_H_
#define FAULTLINE_PROTOCOL_HANDSHAKE_H_

#include <cstddef>
#include <optional>
#include <span>

#include "base/status.h"
#include "protocol/codec.h"
#include "protocol/messages.h"

namespace faultline {

// The size of a first message (Hello, Welcome or PeerError), header included, from its header. An
// error for anything else and for one that is too long: a stranger is turned away by 8 bytes.
absl::StatusOr<size_t> GreetingBytes(std::span<const std::byte, kMessageHeaderBytes> header);

// The same bytes are the beginning of a TLS record instead.
bool BeginsTls(std::span<const std::byte, kMessageHeaderBytes> header);

// Compares all bytes, so that the time it takes tells nothing about where a guess went wrong.
bool SameToken(const SessionToken& a, const SessionToken& b);

// Why a peer that says `hello` cannot be served: no common version (kVersion, both ranges named).
std::optional<PeerError> RefuseVersion(const Hello& hello);

// Where neither side says anything.
inline constexpr bool kIntegrityByDefault = true;

// Whether pages are checked end to end, by what the two sides wish: where one of them asks for it,
// else where neither is against it and the default says so. FailedPrecondition: one asks for it and
// the other cannot; says which and what mends it.
absl::StatusOr<bool> AgreeOnIntegrity(IntegrityWish source, IntegrityWish destination);

// A peer's refusal as this side's error; the message says that it came from the peer.
absl::Status StatusOfPeerError(const PeerError& error);

}  // namespace faultline

#endif  // FAULTLINE_PROTOCOL_HANDSHAKE_H_
