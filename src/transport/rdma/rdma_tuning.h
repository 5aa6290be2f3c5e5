// How queue pairs are made, where the user does not leave it to the system.
#ifndef FAULTLINE_TRANSPORT_RDMA_RDMA_TUNING_H_
#define FAULTLINE_TRANSPORT_RDMA_RDMA_TUNING_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"

namespace faultline {

// How pages that are pushed come to the destination.
enum class RdmaBulk : uint8_t { kRead, kWrite };

struct RdmaTuning {
  // The device and port that the addresses have to lead to; empty and 0: any.
  std::string device;
  uint8_t port = 0;
  // An index into the port's table of GIDs: it says from which address and how (RoCE 1 or 2) this
  // side sends. Needs `device`.
  std::optional<uint8_t> gid_index;
  std::optional<uint8_t> service_level;    // InfiniBand's
  std::optional<uint8_t> type_of_service;  // RoCE's and iWARP's: the byte in the IP header
  uint32_t mtu_bytes = 0;                  // of a packet, at most; 0: the link's
  uint8_t retries = 7;                     // of a packet that nobody acknowledges
  uint8_t ack_timeout = 16;                // until then: 4.096 us * 2^ack_timeout
  // Source: lanes that are opened after the handover do without RDMA where it keeps failing.
  bool fall_back = true;
  // Source: the destination reads what is pushed, or the source writes it.
  RdmaBulk bulk = RdmaBulk::kRead;

  friend bool operator==(const RdmaTuning&, const RdmaTuning&) = default;
};

// "device=mlx5_0,port=1,gid=3,sl=2,tos=104,mtu=2048,retries=7,timeout=16,fallback=off,bulk=write",
// any of
// them. InvalidArgument names what is wrong and what may be given.
absl::StatusOr<RdmaTuning> ParseRdmaTuning(std::string_view text);

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_RDMA_TUNING_H_
