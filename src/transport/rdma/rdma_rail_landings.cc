#include "transport/rdma/rdma_rail_landings.h"

#include <fmt/format.h>

#include <array>
#include <utility>

#include "protocol/codec.h"

namespace faultline {

RdmaRailLandings::RdmaRailLandings(Loop* bulk, const std::vector<std::shared_ptr<RdmaLink>>& links,
                                   std::shared_ptr<RailBytes> counters, Listener* listener)
    : counters_(std::move(counters)), listener_(listener) {
  for (size_t number = 0; number < links.size(); ++number) {
    rails_.push_back(
        std::make_unique<Rail>(this, static_cast<uint16_t>(number), bulk, links[number]));
  }
}

void RdmaRailLandings::Stop() {
  for (const auto& rail : rails_) rail->queue.Detach();
}

void RdmaRailLandings::AwaitSoon() {
  for (const auto& rail : rails_) rail->queue.AwaitSoon();
}

absl::Status RdmaRailLandings::Open(uint64_t number, std::vector<std::byte>* grants) {
  RdmaConnection* const connection =
      number < rails_.size() ? rails_[number]->link->connection() : nullptr;
  if (connection == nullptr || connection->writes_served() == 0) {
    return absl::InvalidArgumentError(fmt::format(
        "bad page frame from the peer: field 'rail' is {}, on which this lane grants nothing",
        number));
  }
  Rail& rail = *rails_[number];
  if (rail.queue.attached()) {
    return absl::InvalidArgumentError(fmt::format(
        "bad page frame from the peer: field 'rail' is {}, on which slots are granted already",
        number));
  }
  rail.queue.Attach(connection, connection->writes_served());
  for (uint16_t slot = 0; slot < connection->writes_served(); ++slot) {
    RETURN_IF_ERROR(Grant({rail.number, slot}, grants));
  }
  return absl::OkStatus();
}

// The receive is there before the source can send anything.
absl::Status RdmaRailLandings::Grant(const WrittenSlot& at, std::vector<std::byte>* grants) {
  Rail& rail = *rails_[at.rail];
  RETURN_IF_ERROR(rail.queue.PostReceive());
  arrivals_.Grant(at);
  const RdmaSlots& slots = rail.link->connection()->slots();
  const std::span<std::byte> bytes = slots.bytes(at.slot);
  std::array<std::byte, kWriteGrantBytes> grant;
  EncodeWriteGrant({.address = reinterpret_cast<uint64_t>(bytes.data()),
                    .key = slots.remote_key(),
                    .bytes = static_cast<uint32_t>(bytes.size()),
                    .rail = at.rail,
                    .slot = at.slot},
                   grant);
  grants->insert(grants->end(), grant.begin(), grant.end());
  return absl::OkStatus();
}

absl::Status RdmaRailLandings::Name(const PageRun& run, size_t bytes, const WrittenSlot& at) {
  const bool is_open = at.rail < rails_.size() && rails_[at.rail]->queue.attached();
  if (is_open && bytes > rails_[at.rail]->link->connection()->slots().bytes_each()) {
    return absl::InvalidArgumentError(fmt::format(
        "bad page frame from the peer: field 'pages' is {}, more than a slot holds", run.count));
  }
  return arrivals_.Name({run, bytes, at});
}

void RdmaRailLandings::OnArrived(uint16_t rail) {
  arrivals_.Arrive(rail);
  listener_->OnRunWhole();
}

RdmaRailRuns::Run RdmaRailLandings::first_whole() const {
  const WriteArrivals::Run& first = arrivals_.first_whole();
  const RdmaSlots& slots = rails_[first.at.rail]->link->connection()->slots();
  return {first.run, slots.bytes(first.at.slot).first(first.bytes)};
}

absl::Status RdmaRailLandings::TakeFirst(std::vector<std::byte>* answer) {
  const WriteArrivals::Run first = arrivals_.TakeFirst();
  counters_->written[first.at.rail].fetch_add(first.bytes, std::memory_order_relaxed);
  return Grant(first.at, answer);
}

}  // namespace faultline
