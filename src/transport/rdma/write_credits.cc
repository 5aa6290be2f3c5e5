#include "transport/rdma/write_credits.h"

#include <fmt/format.h>

#include <limits>
#include <string>

namespace faultline {
namespace {

absl::Status Bad(const char* field, const std::string& why) {
  return absl::InvalidArgumentError(
      fmt::format("bad grant from the peer: field '{}' is {}", field, why));
}

}  // namespace

WriteCredits::WriteCredits(const std::vector<uint16_t>& rails, uint64_t slot_bytes)
    : slot_bytes_(slot_bytes) {
  for (const uint16_t rail : rails) rails_[rail].is_used = true;
}

absl::Status WriteCredits::Add(const WriteGrant& grant) {
  if (grant.rail >= rails_.size() || !rails_[grant.rail].is_used) {
    return Bad("rail", fmt::format("{}, on which this lane writes nothing", grant.rail));
  }
  if (grant.slot >= kRdmaSlotsGranted) {
    return Bad("slot", fmt::format("{}, a rail has at most {}", grant.slot, kRdmaSlotsGranted));
  }
  if (grant.bytes != slot_bytes_) {
    return Bad("bytes", fmt::format("{}, a slot of this VM's has {}", grant.bytes, slot_bytes_));
  }
  if (grant.address > std::numeric_limits<uint64_t>::max() - grant.bytes) {
    return Bad("address", fmt::format("{:#x}, from which {} bytes reach beyond the end",
                                      grant.address, grant.bytes));
  }
  Rail& rail = rails_[grant.rail];
  Slot& slot = rail.slots[grant.slot];
  if (slot == Slot::kGranted) {
    return Bad("slot", fmt::format("{}, which is granted already", grant.slot));
  }
  if (slot == Slot::kTaken) --outstanding_;
  slot = Slot::kGranted;
  rail.granted.push_back(grant);
  return absl::OkStatus();
}

WriteGrant WriteCredits::Take(uint16_t number) {
  Rail& rail = rails_[number];
  const WriteGrant grant = rail.granted.front();
  rail.granted.pop_front();
  rail.slots[grant.slot] = Slot::kTaken;
  ++outstanding_;
  return grant;
}

}  // namespace faultline
