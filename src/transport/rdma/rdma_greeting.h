// How the two ends of a queue pair prove to each other that they belong to one lane. Pure.
#ifndef FAULTLINE_TRANSPORT_RDMA_RDMA_GREETING_H_
#define FAULTLINE_TRANSPORT_RDMA_RDMA_GREETING_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "protocol/messages.h"

namespace faultline {

// The private data of both ends' connecting: {u32 magic, u16 version, u8 role, u8 mtu, 8 bytes,
// u8 rails, u8 writes}. `mtu` is 8 to 12, for packets of at most two to its power bytes, or 0: as
// the path has it; the destination answers with what holds. `rails` is how many the destination
// has, in its answer; 0, and where nothing stands, is one. `writes` is 1 where the source means to
// write what it pushes, and in the answer where the destination lets it; anything else: the
// destination reads. The token came over the lane's own, authenticated connection and serves once:
// the source shows its first half, the destination answers with the second.
inline constexpr size_t kRdmaGreetingBytes = 18;
inline constexpr size_t kRdmaGreetingBytesMin = 16;  // of a peer that knows of nothing that follows
inline constexpr uint16_t kRdmaVersion = 1;

enum class RdmaEnd : uint8_t { kSource, kDestination };

using RdmaGreeting = std::array<std::byte, kRdmaGreetingBytes>;

RdmaGreeting MakeRdmaGreeting(RdmaEnd end, ConnectionRole role, const SessionToken& token,
                              uint32_t mtu_bytes = 0, uint8_t rails = 0, bool writes = false);

// What a lane's queue pair on `rail` has to prove: on the first one the lane's token, on each other
// one what only they can tell who know the migration's token, which no queue pair shows.
SessionToken RailToken(const SessionToken& lane, const SessionToken& migration, size_t rail);

// What a peer's private data says, which may be padded; nullopt: that is no greeting.
struct RdmaGreetingHead {
  uint16_t version = 0;
  ConnectionRole role = ConnectionRole::kDemand;
  uint32_t mtu_bytes = 0;  // what is no MTU is read as 0
  uint8_t rails = 1;       // never 0
  bool writes = false;
};
std::optional<RdmaGreetingHead> ReadRdmaGreeting(std::span<const std::byte> private_data);

// Whether it shows the half that `end` has to show. Takes the same time wherever it differs.
bool ProvesToken(std::span<const std::byte> private_data, RdmaEnd end, const SessionToken& token);

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_RDMA_GREETING_H_
