#include "transport/rdma/rdma_source_rails.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "transport/rdma/rdma_greeting.h"
#include "transport/rdma/rdma_place.h"

namespace faultline {

std::vector<RdmaSourceRails::Pair*> RdmaSourceRails::pairs() {
  std::vector<Pair*> all{&demand_};
  for (Rail& rail : rails_) all.push_back(&rail.bulk);
  return all;
}

void RdmaSourceRails::Drop() {
  timeout_.reset();
  done_ = nullptr;
  for (Pair* pair : pairs()) {
    if (pair->link != nullptr) pair->link->Release();
    *pair = {};
  }
}

void RdmaSourceRails::ForgetDead() {
  Drop();
  for (Rail& rail : rails_) {
    if (events_broken_ || (rail.domain != nullptr && rail.domain->is_dead())) rail.domain.reset();
  }
  if (std::exchange(events_broken_, false)) events_.reset();
}

absl::Status RdmaSourceRails::MakeEvents() {
  if (events_broken_) return absl::UnavailableError("RDMA's events cannot be read any more");
  if (events_ != nullptr) return absl::OkStatus();
  ASSIGN_OR_RETURN(events_, RdmaEvents::Make(loops_.control, [this](const absl::Status& status) {
                     events_broken_ = true;
                     OnTrouble(nullptr, status);
                   }));
  return absl::OkStatus();
}

void RdmaSourceRails::Connect(Terms terms, Done done) {
  Drop();
  terms_ = std::move(terms);
  done_ = std::move(done);
  peer_rails_.reset();
  rails_.resize(terms_.addresses.size());
  demand_rail_ = terms_.rails.front();
  if (absl::Status status = MakeEvents(); !status.ok()) return Finish(status);
  Dial(&demand_, demand_rail_);
  for (const size_t rail : terms_.rails) Dial(&rails_[rail].bulk, rail);
  StartTimer();
  Settle();
}

void RdmaSourceRails::StartTimer() {
  timeout_ = loops_.control->RunAfter(std::max<int64_t>(terms_.timeout_ns / 1000, 0),
                                      [this] { OnTimeout(); });
}

void RdmaSourceRails::Dial(Pair* pair, size_t rail) {
  const bool is_demand = pair == &demand_;
  const Address& address = terms_.addresses[rail];
  RdmaDialer::Target target{
      .local = address.local,
      .peer = address.peer,
      .role = is_demand ? ConnectionRole::kDemand : ConnectionRole::kBulk,
      .token = RailToken(is_demand ? terms_.demand : terms_.bulk, terms_.migration, rail),
      .tuning = tuning_};
  *pair = {};
  pair->link = std::make_shared<RdmaLink>();
  const auto start = [&]() -> absl::Status {
    ASSIGN_OR_RETURN(target.local, AddressToUse(tuning_, target.local));
    pair->dialer = std::make_unique<RdmaDialer>(
        events_.get(), std::move(target),
        [this, rail](const rdma_cm_id& id) { return DomainOf(rail, id); },
        [this, pair](auto connection) { OnConnected(pair, std::move(connection)); },
        [link = pair->link, loop = LoopOf(pair)](const absl::Status& status) {
          RdmaLink::Break(link, loop, status);
        });
    const int64_t timeout_ms = std::clamp<int64_t>(terms_.timeout_ns / 1'000'000, 1, 60'000);
    return pair->dialer->Start(static_cast<int>(timeout_ms));
  };
  if (absl::Status status = start(); !status.ok()) {
    pair->outcome = Annotate(status, fmt::format("RDMA to {}", address.peer.text()));
  }
}

absl::StatusOr<std::shared_ptr<RdmaDomain>> RdmaSourceRails::DomainOf(size_t rail,
                                                                      const rdma_cm_id& id) {
  const auto fits = [&](const Rail& one) {
    return one.domain != nullptr && !one.domain->is_dead() && one.domain->context() == id.verbs;
  };
  if (fits(rails_[rail])) return rails_[rail].domain;
  const auto other = std::ranges::find_if(rails_, fits);
  if (other != rails_.end()) return rails_[rail].domain = other->domain;
  // Whom its troubles concern is known once it is there.
  const auto self = std::make_shared<const RdmaDomain*>(nullptr);
  ASSIGN_OR_RETURN(std::unique_ptr<RdmaDomain> made,
                   RdmaDomain::MakeBeside(
                       id, events_.get(), loops_.control,
                       [this, self](const absl::Status& status) { OnTrouble(*self, status); }));
  *self = made.get();
  rails_[rail].domain = std::move(made);
  return rails_[rail].domain;
}

void RdmaSourceRails::OnConnected(Pair* pair,
                                  absl::StatusOr<std::unique_ptr<RdmaConnection>> connection) {
  pair->outcome = connection.status();
  if (connection.ok()) {
    peer_rails_ = pair->dialer->peer_rails();
    pair->link->Establish(std::move(*connection));
  }
  Settle();
}

void RdmaSourceRails::OnTimeout() {
  for (Pair* pair : pairs()) {
    if (!pair->wanted() || pair->outcome.has_value()) continue;
    pair->outcome = absl::DeadlineExceededError(fmt::format(
        "RDMA to {}: the destination did not answer in time; do the two devices reach each other "
        "(rping -s and rping -c try it)?",
        pair->dialer->peer().text()));
    pair->dialer.reset();
  }
  Settle();
}

void RdmaSourceRails::OnTrouble(const RdmaDomain* domain, const absl::Status& status) {
  const bool connecting = done_ != nullptr;
  for (Pair* pair : pairs()) {
    RdmaConnection* const connection = pair->link != nullptr ? pair->link->connection() : nullptr;
    if (connection == nullptr || (domain != nullptr && &connection->domain() != domain)) continue;
    if (!connecting) {
      RdmaLink::Break(pair->link, LoopOf(pair), status);
      continue;
    }
    pair->link->Release();
    pair->dialer.reset();
    pair->outcome = status;
  }
  if (!connecting) return trouble_(status);
  if (domain == nullptr) return Finish(status);
  Settle();
}

std::optional<absl::Status> RdmaSourceRails::FailureOfOne() const {
  if (demand_.failed()) return demand_.outcome;
  for (const size_t rail : terms_.rails) {
    const Pair& bulk = rails_[rail].bulk;
    if (!bulk.failed()) continue;
    if (rail > 0 && !peer_rails_.has_value()) return std::nullopt;
    if (rail == 0 || rail < peer_rails_) return bulk.outcome;
    return absl::FailedPreconditionError(fmt::format(
        "--to names {} rails and the destination listens on {} ({}): give --listen the same "
        "number of addresses",
        terms_.addresses.size(), *peer_rails_, MessageOf(*bulk.outcome)));
  }
  return std::nullopt;
}

void RdmaSourceRails::Settle() {
  if (!done_) return;
  if (terms_.all_wanted) {
    if (const auto failure = FailureOfOne(); failure.has_value()) return Finish(*failure);
  }
  for (const Pair* pair : pairs()) {
    if (pair->wanted() && !pair->outcome.has_value()) return;
  }
  if (demand_.failed()) {
    if (!DialDemandElsewhere()) Finish(*demand_.outcome);
    return;
  }
  if (connected().empty()) return Finish(*rails_[terms_.rails.front()].bulk.outcome);
  TellOfLost();
  TellOfUnused();
  Finish(absl::OkStatus());
}

bool RdmaSourceRails::DialDemandElsewhere() {
  for (const size_t rail : connected()) {
    if (rail <= demand_rail_) continue;
    demand_rail_ = rail;
    Dial(&demand_, rail);
    StartTimer();
    Settle();
    return true;
  }
  return false;
}

void RdmaSourceRails::TellOfLost() const {
  for (const size_t rail : terms_.rails) {
    const Pair& bulk = rails_[rail].bulk;
    if (!bulk.failed()) continue;
    notice_(fmt::format("{}: the VM's memory goes over the other rails, {} of {}",
                        MessageOf(*bulk.outcome), connected().size(), rails_.size()));
  }
}

void RdmaSourceRails::TellOfUnused() const {
  if (!terms_.all_wanted || peer_rails_ <= rails_.size()) return;
  notice_(
      fmt::format("the destination listens on {} rails and --to names {} of them, which are used",
                  *peer_rails_, rails_.size()));
}

void RdmaSourceRails::Finish(const absl::Status& status) {
  timeout_.reset();
  std::exchange(done_, nullptr)(status);
}

std::vector<size_t> RdmaSourceRails::connected() const {
  std::vector<size_t> all;
  for (const size_t rail : terms_.rails) {
    if (rails_[rail].bulk.connected()) all.push_back(rail);
  }
  return all;
}

}  // namespace faultline
