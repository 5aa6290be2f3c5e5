// The rules of the first message of a connection. Pure.
#ifndef FAULTLINE_PROTOCOL_HANDSHAKE_H_
#define FAULTLINE_PROTOCOL_HANDSHAKE_H_

#include <optional>

#include "base/status.h"
#include "protocol/messages.h"

namespace faultline {

// Why a peer that says `hello` cannot be served: no common version (kVersion, both ranges named).
std::optional<PeerError> RefuseVersion(const Hello& hello);

// A peer's refusal as this side's error; the message says that it came from the peer.
absl::Status StatusOfPeerError(const PeerError& error);

}  // namespace faultline

#endif  // FAULTLINE_PROTOCOL_HANDSHAKE_H_
