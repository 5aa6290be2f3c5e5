// The slots of the destination's that the source may write into. Pure.
#ifndef FAULTLINE_TRANSPORT_RDMA_WRITE_CREDITS_H_
#define FAULTLINE_TRANSPORT_RDMA_WRITE_CREDITS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "base/status.h"
#include "protocol/messages.h"
#include "transport/rdma/rail_places.h"
#include "transport/rdma/rdma_limits.h"

namespace faultline {

// One thread. A slot is granted, written into, and granted again once its run was taken.
class WriteCredits {
 public:
  // `rails` are those that grants were asked for on, `slot_bytes` what each slot must hold.
  WriteCredits(const std::vector<uint16_t>& rails, uint64_t slot_bytes);

  // A grant of the peer's. InvalidArgument names the field that breaks the rules.
  absl::Status Add(const WriteGrant& grant);
  bool has_any(uint16_t rail) const { return !rails_[rail].granted.empty(); }
  // The oldest of a rail that has any.
  WriteGrant Take(uint16_t rail);
  // Slots that were taken here and not granted again: their runs are not known to have arrived.
  uint32_t outstanding() const { return outstanding_; }

 private:
  enum class Slot : uint8_t { kUnknown, kGranted, kTaken };
  struct Rail {
    bool is_used = false;
    std::array<Slot, kRdmaSlotsGranted> slots{};
    std::deque<WriteGrant> granted;
  };

  const uint64_t slot_bytes_;
  std::array<Rail, kRdmaRailsMax> rails_;
  uint32_t outstanding_ = 0;
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_WRITE_CREDITS_H_
