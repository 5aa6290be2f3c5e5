// Bytes from a hook -> its answers. Pure, so that it can be fuzzed; the hook's end is
// hook/request_parser.h.
#ifndef FAULTLINE_MEMORY_HOOK_REPLIES_H_
#define FAULTLINE_MEMORY_HOOK_REPLIES_H_

#include <cstdint>
#include <span>

#include "base/status.h"
#include "hook/hook_protocol.h"
#include "memory/hook_client.h"

namespace faultline {

// Each takes bytes in wire order and gives what they say in host order. InvalidArgument says in a
// few words what cannot be a hook's.

// The header of a whole message; its status may be a refusal.
absl::StatusOr<HookHeader> ParseReplyHeader(std::span<const uint8_t> message);

// What follows the header in the reply to HELLO. `process_id` is as the hook numbers it. Control
// characters in `release` are replaced.
absl::StatusOr<HookInfo> ParseHelloReply(std::span<const uint8_t> payload);

// In the replies to ARM and TAKE. `uffd` and `page_state` are left for the caller to fill in.
absl::StatusOr<ArmedRegions> ParseArmedRegions(std::span<const uint8_t> payload);

}  // namespace faultline

#endif  // FAULTLINE_MEMORY_HOOK_REPLIES_H_
