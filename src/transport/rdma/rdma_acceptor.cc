#include "transport/rdma/rdma_acceptor.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/check.h"
#include "transport/rdma/rdma_greeting.h"
#include "transport/rdma/rdma_limits.h"
#include "transport/rdma/rdma_place.h"

namespace faultline {
namespace {

constexpr int kBacklog = 8;

}  // namespace

absl::Status RdmaAcceptor::Listen(const SocketAddress& address) {
  address_ = address;
  return Listen();
}

void RdmaAcceptor::ListenAgain() {
  FAULTLINE_CHECK(lanes_.empty());  // whose identifiers go before the events
  if (!is_deaf_) return;
  listener_.reset();
  events_.reset();
  if (absl::Status status = Listen(); !status.ok()) {
    if (!std::exchange(deaf_told_, true)) {
      notice_(fmt::format("no RDMA on {} any more, unless its device comes back: {}",
                          address_.text(), MessageOf(status)));
    }
    return;
  }
  is_deaf_ = false;
  deaf_told_ = false;
}

absl::Status RdmaAcceptor::Listen() {
  ASSIGN_OR_RETURN(events_, RdmaEvents::Make(control_, [this](const absl::Status& status) {
                     is_deaf_ = true;
                     notice_(MessageOf(status));
                     OnTrouble(status);
                   }));
  ASSIGN_OR_RETURN(listener_, events_->MakeId(this));
  SocketAddress bound = address_;  // the library takes it without const
  if (rdma_bind_addr(listener_.get(), reinterpret_cast<sockaddr*>(&bound.storage)) != 0) {
    const absl::Status status =
        ErrnoStatus(errno, fmt::format("listen for RDMA on {}", address_.text()));
    if (errno != ENODEV && errno != EADDRNOTAVAIL) return status;
    return Annotate(status,
                    "no RDMA device has that address: `rdma link` and `ip address` show "
                    "which have one");
  }
  RETURN_IF_ERROR(CheckPlace(*listener_, tuning_));
  if (rdma_listen(listener_.get(), kBacklog) != 0) {
    return ErrnoStatus(errno, fmt::format("listen for RDMA on {}", address_.text()));
  }
  return absl::OkStatus();
}

void RdmaAcceptor::Clear() {
  awaited_.clear();
  for (const auto& lane : lanes_) lane->terms.link->Release();  // before who hears its events
  lanes_.clear();
}

void RdmaAcceptor::OnRdmaEvent(const RdmaEvent& event) {
  if (event.type == RDMA_CM_EVENT_CONNECT_REQUEST) return OnRequest(event);
  if (event.type == RDMA_CM_EVENT_DEVICE_REMOVAL) {
    is_deaf_ = true;
    OnTrouble(absl::UnavailableError("the RDMA device was removed"));
  }
}

void RdmaAcceptor::OnRequest(const RdmaEvent& request) {
  RdmaId id(request.id);
  id->context = nullptr;
  const std::span<const std::byte> shown(request.private_data.data(), request.private_bytes);
  const auto head = ReadRdmaGreeting(shown);
  if (!head.has_value() || head->version != kRdmaVersion) {
    rdma_reject(id.get(), nullptr, 0);
    return;
  }
  const auto lane = std::ranges::find_if(awaited_, [&](const AwaitedLane& awaited) {
    return awaited.role == head->role && awaited.link->connection() == nullptr &&
           ProvesToken(shown, RdmaEnd::kSource, awaited.token);
  });
  if (lane == awaited_.end()) {
    rdma_reject(id.get(), nullptr, 0);
    return;
  }
  AwaitedLane awaited = std::move(*lane);
  awaited_.erase(lane);
  absl::Status status = Accept(request, std::move(id), std::move(awaited));
  if (!status.ok()) notice_("RDMA: " + MessageOf(status));
}

absl::Status RdmaAcceptor::Accept(const RdmaEvent& request, RdmaId id, AwaitedLane awaited) {
  auto lane = std::make_unique<Lane>();
  lane->terms = std::move(awaited);
  auto connected = Connect(request, std::move(id), lane->terms);
  if (!connected.ok()) return connected.status();
  RdmaConnection* const connection = connected->get();
  const RdmaGreeting answer =
      MakeRdmaGreeting(RdmaEnd::kDestination, lane->terms.role, lane->terms.token,
                       connection->mtu_bytes(), lane->terms.rails, connection->writes_served() > 0);
  rdma_conn_param parameters = connection->parameters();
  parameters.private_data = answer.data();
  parameters.private_data_len = answer.size();
  connection->id()->context = static_cast<RdmaEventListener*>(lane.get());
  // First, since the source names pages as soon as it hears of it; if it cannot, it never does.
  lane->terms.link->Establish(std::move(*connected));
  lanes_.push_back(std::move(lane));
  if (rdma_accept(connection->id(), &parameters) == 0) return absl::OkStatus();
  const absl::Status status = ErrnoStatus(errno, "accept a queue pair");
  rdma_reject(connection->id(), nullptr, 0);
  return status;
}

absl::StatusOr<RdmaTerms> RdmaAcceptor::TermsOf(const RdmaEvent& request, const RdmaDomain& domain,
                                                const AwaitedLane& lane) {
  RdmaTerms terms;
  const auto head = ReadRdmaGreeting({request.private_data.data(), request.private_bytes});
  if (head.has_value()) terms.mtu_bytes_max = head->mtu_bytes;
  if (head.has_value() && head->writes && lane.role == ConnectionRole::kBulk) {
    terms.writes_served = kRdmaSlotsGranted;
    return terms;
  }
  terms.reads_max =
      std::min({lane.reads_max, static_cast<uint32_t>(domain.limits().max_qp_init_rd_atom),
                static_cast<uint32_t>(request.initiator_depth)});
  if (terms.reads_max > 0) return terms;
  return absl::FailedPreconditionError(fmt::format(
      "{} and the source's device agree on no RDMA READs at a time", domain.device_name()));
}

absl::StatusOr<std::unique_ptr<RdmaConnection>> RdmaAcceptor::Connect(const RdmaEvent& request,
                                                                      RdmaId id,
                                                                      const AwaitedLane& terms) {
  std::unique_ptr<RdmaConnection> connection;
  const auto connect = [&]() -> absl::Status {
    RETURN_IF_ERROR(CheckPlace(*id, tuning_));
    ASSIGN_OR_RETURN(std::shared_ptr<RdmaDomain> domain, DomainOf(*id));
    ASSIGN_OR_RETURN(const RdmaTerms wanted, TermsOf(request, *domain, terms));
    const size_t slots = wanted.writes_served > 0 ? wanted.writes_served : 2 * wanted.reads_max;
    ASSIGN_OR_RETURN(connection,
                     RdmaConnection::Make(std::move(id), std::move(domain), wanted, tuning_));
    // While one is being put into the VM, another is read or written into.
    RETURN_IF_ERROR(connection->MakeSlots(slots, terms.slot_bytes));
    return connection->BringUp();
  };
  if (absl::Status status = connect(); !status.ok()) {
    // One whose queue pair could not be made is gone, which refuses it.
    rdma_cm_id* const refused = connection != nullptr ? connection->id() : id.get();
    if (refused != nullptr) rdma_reject(refused, nullptr, 0);
    return status;
  }
  return connection;
}

// The device stays open while an identifier is bound to it: the domain has one of its own.
absl::StatusOr<std::shared_ptr<RdmaDomain>> RdmaAcceptor::DomainOf(const rdma_cm_id& id) {
  auto domain = domain_.lock();
  if (domain != nullptr && !domain->is_dead() && domain->context() == id.verbs) return domain;
  ASSIGN_OR_RETURN(
      std::unique_ptr<RdmaDomain> made,
      RdmaDomain::MakeBeside(id, events_.get(), control_,
                             [this](const absl::Status& status) { OnTrouble(status); }));
  domain = std::move(made);
  domain_ = domain;
  return domain;
}

void RdmaAcceptor::OnTrouble(const absl::Status& status) {
  for (const auto& lane : lanes_) RdmaLink::Break(lane->terms.link, lane->terms.executor, status);
}

void RdmaAcceptor::Lane::OnRdmaEvent(const RdmaEvent& event) {
  if (event.type == RDMA_CM_EVENT_ESTABLISHED || event.type == RDMA_CM_EVENT_TIMEWAIT_EXIT) return;
  RdmaLink::Break(terms.link, terms.executor,
                  absl::UnavailableError("the RDMA connection ended: " + event.text()));
}

}  // namespace faultline
