// One of each message and the bytes that it is on the wire, for good: a change here is a change of
// the protocol, and needs a new version.
#ifndef FAULTLINE_TESTS_PROTOCOL_GOLDEN_MESSAGES_H_
#define FAULTLINE_TESTS_PROTOCOL_GOLDEN_MESSAGES_H_

#include <string>
#include <vector>

#include "protocol/messages.h"

namespace faultline {

struct GoldenMessage {
  const char* name;
  Message message;
  std::string hex;
};

inline std::vector<GoldenMessage> GoldenMessages() {
  const MigrationId id = {0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17,
                          0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f};
  const SessionToken token = {0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27,
                              0x28, 0x29, 0x2a, 0x2b, 0x2c, 0x2d, 0x2e, 0x2f};
  const MemoryLayout layout = {{"ram", 0x40000000, 0x1000}, {"huge", 0x80000000, 0x200000}};
  return {
      {"Hello", Hello{1, 1, ConnectionRole::kDemand, 3, id, token},
       "010000002c00000046544c4e0100010002030000101112131415161718191a1b1c1d1e1f"
       "202122232425262728292a2b2c2d2e2f"},
      {"Welcome", Welcome{1, token},
       "020000001800000046544c4e01000000202122232425262728292a2b2c2d2e2f"},
      {"PeerError", PeerError{PeerErrorCode::kPrepare, "no room"},
       "030000001300000046544c4e05000000070000006e6f20726f6f6d"},
      {"Offer", Offer{layout, "QEMU 7.2"},
       "040000003b0000000200000000000040000000000010000000000000030072616d000000"
       "800000000000002000000000000400687567650800000051454d5520372e32"},
      {"Accepted", Accepted{"QEMU 10"}, "050000000b0000000700000051454d55203130"},
      {"Frozen", Frozen{layout},
       "060000002f0000000200000000000040000000000010000000000000030072616d000000"
       "80000000000000200000000000040068756765"},
      {"AllocatedRanges", AllocatedRanges{1, {{2, 5}, {0x100000000, 0x100000001}}},
       "070000002800000001000000020000000200000000000000050000000000000000000000"
       "010000000100000001000000"},
      {"AllocationMapEnd", AllocationMapEnd{0x1234}, "08000000080000003412000000000000"},
      {"DeviceState", DeviceState{{std::byte{0xde}, std::byte{0xad}, std::byte{0}}},
       "0900000003000000dead00"},
      {"DeviceStateEnd", DeviceStateEnd{0x4d2}, "0a00000008000000d204000000000000"},
      {"Loaded", Loaded{}, "0b00000000000000"},
      {"Commit", Commit{true, 12345}, "0c00000009000000013930000000000000"},
      {"Running", Running{23456}, "0d00000008000000a05b000000000000"},
      {"Progress", Progress{1, 2, 3},
       "0e00000018000000010000000000000002000000000000000300000000000000"},
      {"Completed", Completed{4, 5, 6},
       "0f00000018000000040000000000000005000000000000000600000000000000"},
      {"Goodbye", Goodbye{}, "1000000000000000"},
      {"Heartbeat", Heartbeat{}, "1100000000000000"},
      {"Ready", Ready{}, "1200000000000000"},
      {"StillMissing", StillMissing{1, {{2, 5}, {7, 9}}},
       "130000002800000001000000020000000200000000000000050000000000000007000000"
       "000000000900000000000000"},
      {"StillMissingEnd", StillMissingEnd{0x1234, true}, "1400000009000000341200000000000001"},
      {"PackedDeviceState", PackedDeviceState{7, {std::byte{0xde}, std::byte{0xad}}},
       "150000000600000007000000dead"},
      {"Mismatch", Mismatch{{1, 2, 3}},
       "1600000014000000010000000200000000000000"
       "0300000000000000"},
      {"RoundReceived", RoundReceived{0x1234}, "170000000400000034120000"},
      {"StillDirty", StillDirty{1, {{2, 5}, {7, 8}, {0x1234, 0x5678}}},
       "1800000011000000010000000300000002020200ac24c38801"},
      {"StillDirtyEnd", StillDirtyEnd{3, 0x1234}, "190000000c000000030000003412000000000000"},
  };
}

}  // namespace faultline

#endif  // FAULTLINE_TESTS_PROTOCOL_GOLDEN_MESSAGES_H_
