#include "transport/rdma/rdma_rail_writes.h"

#include <algorithm>
#include <utility>

#include "transport/rdma/rail_choice.h"

namespace faultline {
namespace {

std::vector<uint16_t> NumbersOf(const std::vector<RdmaPushRail>& rails) {
  std::vector<uint16_t> numbers;
  for (const RdmaPushRail& rail : rails) numbers.push_back(rail.number);
  return numbers;
}

}  // namespace

RdmaRailWrites::RdmaRailWrites(Loop* bulk, const std::vector<RdmaPushRail>& rails,
                               uint64_t slot_bytes, Listener* listener)
    : listener_(listener), credits_(NumbersOf(rails), slot_bytes) {
  for (const RdmaPushRail& rail : rails) rails_.push_back(std::make_unique<Rail>(this, rail, bulk));
}

void RdmaRailWrites::Start(std::vector<std::byte>* frames) {
  for (const auto& rail : rails_) {
    RdmaConnection* const connection = rail->rail.link->connection();
    rail->queue.Attach(connection, connection->writes_max());
    std::array<std::byte, kPageFrameBytes> frame;
    EncodePageFrame({PageFrameKind::kGrantsWanted, {0, rail->rail.number, 0}}, frame);
    frames->insert(frames->end(), frame.begin(), frame.end());
  }
}

void RdmaRailWrites::Stop() {
  for (const auto& rail : rails_) rail->queue.Detach();
}

void RdmaRailWrites::AwaitSoon() {
  for (const auto& rail : rails_) rail->queue.AwaitSoon();
}

absl::Status RdmaRailWrites::TakeGrants(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const size_t count = std::min(bytes.size(), part_.size() - part_bytes_);
    std::ranges::copy(bytes.first(count), part_.begin() + static_cast<ptrdiff_t>(part_bytes_));
    part_bytes_ += count;
    bytes = bytes.subspan(count);
    if (part_bytes_ < part_.size()) continue;
    part_bytes_ = 0;
    RETURN_IF_ERROR(credits_.Add(DecodeWriteGrant(part_)));
  }
  return absl::OkStatus();
}

std::optional<size_t> RdmaRailWrites::Choose() const {
  std::array<RailLoad, kRdmaRailsMax> loads;
  for (size_t i = 0; i < rails_.size(); ++i) {
    const Rail& rail = *rails_[i];
    loads[i] = {.has_room = rail.queue.has_room() && credits_.has_any(rail.rail.number),
                .under_way = rail.queue.under_way(),
                .bytes = rail.bytes_given};
  }
  return ChooseRail(std::span(loads).first(rails_.size()));
}

absl::StatusOr<WrittenSlot> RdmaRailWrites::Write(const RailPlaces& places, size_t bytes) {
  Rail& rail = *rails_[*Choose()];
  const RemotePlace place = *places.On(rail.rail.number);
  const WriteGrant grant = credits_.Take(rail.rail.number);
  RETURN_IF_ERROR(rail.queue.PostWrite({reinterpret_cast<const std::byte*>(place.address), bytes},
                                       rail.rail.registered->local_key(place.key), grant));
  rail.bytes_given += bytes;
  return WrittenSlot{grant.rail, grant.slot};
}

}  // namespace faultline
