#include "transport/rdma/rdma_acceptor.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "transport/rdma/rdma_greeting.h"

namespace faultline {
namespace {

constexpr int kBacklog = 8;

}  // namespace

absl::Status RdmaAcceptor::Listen(const SocketAddress& address) {
  ASSIGN_OR_RETURN(events_, RdmaEvents::Make(control_));
  ASSIGN_OR_RETURN(listener_, events_->MakeId(this));
  SocketAddress bound = address;  // the library takes it without const
  if (rdma_bind_addr(listener_.get(), reinterpret_cast<sockaddr*>(&bound.storage)) != 0) {
    const absl::Status status =
        ErrnoStatus(errno, fmt::format("listen for RDMA on {}", address.text()));
    if (errno != ENODEV && errno != EADDRNOTAVAIL) return status;
    return Annotate(status,
                    "no RDMA device has that address: `rdma link` and `ip address` show "
                    "which have one");
  }
  if (rdma_listen(listener_.get(), kBacklog) != 0) {
    return ErrnoStatus(errno, fmt::format("listen for RDMA on {}", address.text()));
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
    return awaited.role == head->role && ProvesToken(shown, RdmaEnd::kSource, awaited.token);
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
  rdma_cm_id* const raw = id.get();
  auto refuse = [&](const absl::Status& status) {
    rdma_reject(raw, nullptr, 0);
    return status;
  };
  auto domain = DomainOf(*raw);
  if (!domain.ok()) return refuse(domain.status());
  const ibv_device_attr& limits = (*domain)->limits();
  const uint32_t reads_max =
      std::min({lane->terms.reads_max, static_cast<uint32_t>(limits.max_qp_init_rd_atom),
                static_cast<uint32_t>(request.initiator_depth)});
  if (reads_max == 0) {
    return refuse(absl::FailedPreconditionError(fmt::format(
        "{} and the source's device agree on no RDMA READs at a time", (*domain)->device_name())));
  }
  // Refused by hand from here on: the identifier goes with the connection.
  auto connection = RdmaConnection::Make(std::move(id), *domain, reads_max);
  if (!connection.ok()) return connection.status();
  // While one is being put into the VM, another is read into.
  absl::Status status = (*connection)->MakeSlots(2 * reads_max, lane->terms.slot_bytes);
  if (!status.ok()) return refuse(status);
  const RdmaGreeting answer =
      MakeRdmaGreeting(RdmaEnd::kDestination, lane->terms.role, lane->terms.token);
  rdma_conn_param parameters{};
  parameters.private_data = answer.data();
  parameters.private_data_len = answer.size();
  parameters.initiator_depth = static_cast<uint8_t>(reads_max);
  parameters.rnr_retry_count = 7;
  raw->context = static_cast<RdmaEventListener*>(lane.get());
  if (rdma_accept(raw, &parameters) != 0) return ErrnoStatus(errno, "accept a queue pair");
  lane->terms.link->Establish(std::move(*connection));
  lanes_.push_back(std::move(lane));
  return absl::OkStatus();
}

// The device stays open while an identifier is bound to it: the domain has one of its own.
absl::StatusOr<std::shared_ptr<RdmaDomain>> RdmaAcceptor::DomainOf(const rdma_cm_id& id) {
  if (auto domain = domain_.lock(); domain != nullptr && domain->context() == id.verbs) {
    return domain;
  }
  ASSIGN_OR_RETURN(
      std::unique_ptr<RdmaDomain> made,
      RdmaDomain::MakeBeside(id, events_.get(), control_,
                             [this](const absl::Status& status) { OnTrouble(status); }));
  std::shared_ptr<RdmaDomain> domain = std::move(made);
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
