#include "transport/rdma/rdma_rail_reads.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "transport/rdma/rail_choice.h"
#include "transport/rdma/rdma_limits.h"

namespace faultline {

RdmaRailReads::RdmaRailReads(Loop* bulk, const std::vector<std::shared_ptr<RdmaLink>>& links,
                             std::shared_ptr<RailBytes> counters, Listener* listener)
    : counters_(std::move(counters)), listener_(listener) {
  for (size_t number = 0; number < links.size(); ++number) {
    rails_.push_back(std::make_unique<Rail>(this, number, bulk, links[number]));
  }
}

void RdmaRailReads::Start() {
  for (const auto& rail : rails_) {
    rail->link->OnBroken([this](const absl::Status& status) { listener_->OnRunsFailed(status); });
  }
}

void RdmaRailReads::Stop() {
  for (const auto& rail : rails_) {
    rail->link->OnBroken(nullptr);
    rail->queue.Detach();
  }
}

absl::Status RdmaRailReads::Name(const PageRun& run, size_t bytes, const RailPlaces& places) {
  for (const RemotePlace& place : places.all()) {
    RdmaConnection* const connection =
        place.rail < rails_.size() ? rails_[place.rail]->link->connection() : nullptr;
    if (connection == nullptr || connection->reads_max() == 0) {
      return absl::InvalidArgumentError(fmt::format(
          "bad page frame from the peer: field 'rail' is {}, on which this lane reads nothing",
          place.rail));
    }
    Rail& rail = *rails_[place.rail];
    if (bytes > connection->slots().bytes_each()) {
      return absl::InvalidArgumentError(fmt::format(
          "bad page frame from the peer: field 'pages' is {}, more than is read at once",
          run.count));
    }
    if (rail.queue.attached()) continue;
    rail.queue.Attach(connection, connection->reads_max());
    rail.in_slot.resize(connection->slots().count());
  }
  if (outstanding_ == kRdmaRunsNamedMax * rails_.size()) {
    return absl::InvalidArgumentError(
        "bad page frame from the peer: field 'kind' says pages to be read, beyond what may be "
        "under way");
  }
  ++outstanding_;
  waiting_.push_back({run, bytes, places});
  return absl::OkStatus();
}

absl::Status RdmaRailReads::Post() {
  while (!waiting_.empty()) {
    const Named& next = waiting_.front();
    std::array<RailLoad, kRdmaRailsMax> loads;
    for (const auto& rail : rails_) {
      loads[rail->number] = {
          .has_room = next.places.On(static_cast<uint16_t>(rail->number)).has_value() &&
                      rail->queue.has_room() && !rail->link->connection()->slots().empty(),
          .under_way = rail->queue.under_way(),
          .bytes = rail->bytes_given};
    }
    const std::optional<size_t> chosen = ChooseRail(std::span(loads).first(rails_.size()));
    if (!chosen.has_value()) return absl::OkStatus();
    Rail& rail = *rails_[*chosen];
    const uint32_t slot = rail.link->connection()->slots().Take();
    RETURN_IF_ERROR(
        rail.queue.PostRead(slot, next.bytes, *next.places.On(static_cast<uint16_t>(rail.number))));
    rail.bytes_given += next.bytes;
    rail.in_slot[slot] = next;
    waiting_.pop_front();
  }
  return absl::OkStatus();
}

void RdmaRailReads::AwaitSoon() {
  for (const auto& rail : rails_) rail->queue.AwaitSoon();
}

void RdmaRailReads::OnReadDone(Rail* rail, uint32_t slot) {
  counters_->read[rail->number].fetch_add(rail->in_slot[slot].bytes, std::memory_order_relaxed);
  whole_.push_back({rail, slot});
  listener_->OnRunWhole();
}

RdmaRailRuns::Run RdmaRailReads::first_whole() const {
  const Whole& first = whole_.front();
  const Named& named = first.rail->in_slot[first.slot];
  return {named.run, first.rail->link->connection()->slots().bytes(first.slot).first(named.bytes)};
}

absl::Status RdmaRailReads::TakeFirst(std::vector<std::byte>* answer) {
  const Whole& first = whole_.front();
  first.rail->link->connection()->slots().Return(first.slot);
  whole_.pop_front();
  --outstanding_;
  answer->push_back(std::byte{0});
  return absl::OkStatus();
}

}  // namespace faultline
