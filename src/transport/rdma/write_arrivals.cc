#include "transport/rdma/write_arrivals.h"

#include <fmt/format.h>

#include <utility>

#include "base/check.h"

namespace faultline {

void WriteArrivals::Grant(const WrittenSlot& at) {
  FAULTLINE_CHECK(!std::exchange(rails_[at.rail].is_granted[at.slot], true));
}

absl::Status WriteArrivals::Name(const Run& run) {
  const WrittenSlot& at = run.at;
  if (at.rail >= rails_.size() || at.slot >= kRdmaSlotsGranted ||
      !rails_[at.rail].is_granted[at.slot]) {
    return absl::InvalidArgumentError(
        fmt::format("bad page frame from the peer: field 'slot' is {} of rail {}, which is not "
                    "granted",
                    at.slot, at.rail));
  }
  Rail& rail = rails_[at.rail];
  rail.is_granted[at.slot] = false;
  rail.named.push_back(run);
  ++outstanding_;
  Match(&rail);
  return absl::OkStatus();
}

void WriteArrivals::Arrive(uint16_t rail) {
  ++rails_[rail].unmatched;
  Match(&rails_[rail]);
}

void WriteArrivals::Match(Rail* rail) {
  for (; rail->unmatched > 0 && !rail->named.empty(); --rail->unmatched) {
    whole_.push_back(rail->named.front());
    rail->named.pop_front();
  }
}

WriteArrivals::Run WriteArrivals::TakeFirst() {
  const Run first = whole_.front();
  whole_.pop_front();
  --outstanding_;
  return first;
}

}  // namespace faultline
