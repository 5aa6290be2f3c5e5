#include "transport/rdma/rdma_dialer.h"

#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "transport/rdma/rdma_greeting.h"
#include "transport/rdma/rdma_limits.h"
#include "transport/rdma/rdma_place.h"

namespace faultline {
namespace {

// The peer's READs that this end's device serves at a time.
constexpr int kReadsServedMax = 64;

SocketAddress WithoutPort(SocketAddress address) {
  if (address.storage.ss_family == AF_INET6) {
    reinterpret_cast<sockaddr_in6*>(&address.storage)->sin6_port = 0;
  } else {
    reinterpret_cast<sockaddr_in*>(&address.storage)->sin_port = 0;
  }
  return address;
}

}  // namespace

RdmaDialer::RdmaDialer(RdmaEvents* events, Target target, DomainOf domain_of, Done done,
                       Broken broken)
    : events_(events),
      target_(std::move(target)),
      domain_of_(std::move(domain_of)),
      done_(std::move(done)),
      broken_(std::move(broken)) {}

absl::Status RdmaDialer::Start(int timeout_ms) {
  timeout_ms_ = timeout_ms;
  ASSIGN_OR_RETURN(id_, events_->MakeId(this));
  RETURN_IF_ERROR(SetOptions());
  SocketAddress peer = target_.peer;  // the library takes them without const
  std::optional<SocketAddress> local;
  if (target_.local.has_value()) local = WithoutPort(*target_.local);
  if (rdma_resolve_addr(id_.get(),
                        local.has_value() ? reinterpret_cast<sockaddr*>(&local->storage) : nullptr,
                        reinterpret_cast<sockaddr*>(&peer.storage), timeout_ms) != 0) {
    const std::string what = local.has_value() ? local->text() : "the way to " + peer.text();
    return Annotate(ErrnoStatus(errno, fmt::format("find an RDMA device for {}", what)),
                    "no RDMA device has that address; `rdma link` and `ip address` show which have "
                    "one");
  }
  return absl::OkStatus();
}

absl::Status RdmaDialer::SetOptions() {
  if (!target_.tuning.type_of_service.has_value()) return absl::OkStatus();
  uint8_t tos = *target_.tuning.type_of_service;
  if (rdma_set_option(id_.get(), RDMA_OPTION_ID, RDMA_OPTION_ID_TOS, &tos, sizeof(tos)) == 0) {
    return absl::OkStatus();
  }
  return ErrnoStatus(errno, fmt::format("set RDMA's type of service to {}", tos));
}

void RdmaDialer::OnRdmaEvent(const RdmaEvent& event) {
  if (!done_) {
    if (event.type != RDMA_CM_EVENT_TIMEWAIT_EXIT) {
      broken_(absl::UnavailableError("the RDMA connection ended: " + event.text()));
    }
    return;
  }
  absl::Status status;
  if (event.type == RDMA_CM_EVENT_ADDR_RESOLVED) {
    if (rdma_resolve_route(id_.get(), timeout_ms_) != 0) {
      status = ErrnoStatus(errno, "find an RDMA route");
    }
  } else if (event.type == RDMA_CM_EVENT_ROUTE_RESOLVED) {
    status = Connect();
  } else if (event.type == RDMA_CM_EVENT_CONNECT_RESPONSE ||
             event.type == RDMA_CM_EVENT_ESTABLISHED) {  // iWARP says the latter only
    status = TakeAnswer(event);
    if (status.ok()) return std::exchange(done_, nullptr)(std::move(connection_));
  } else {
    status = absl::UnavailableError(event.text());
  }
  if (!status.ok()) Fail(status);
}

absl::Status RdmaDialer::Connect() {
  RETURN_IF_ERROR(CheckPlace(*id_, target_.tuning));
  RETURN_IF_ERROR(CheckPort(*id_));
  ASSIGN_OR_RETURN(std::shared_ptr<RdmaDomain> domain, domain_of_(*id_));
  RdmaTerms terms;
  if (writes()) {
    terms.writes_max = kRdmaRunsUnderWayMax;
  } else {
    terms.reads_served =
        static_cast<uint8_t>(std::min(domain->limits().max_qp_rd_atom, kReadsServedMax));
  }
  ASSIGN_OR_RETURN(connection_,
                   RdmaConnection::Make(std::move(id_), std::move(domain), terms, target_.tuning));
  const RdmaGreeting greeting =
      MakeRdmaGreeting(RdmaEnd::kSource, target_.role, target_.token, target_.tuning.mtu_bytes,
                       /*rails=*/0, writes());
  rdma_conn_param parameters = connection_->parameters();
  parameters.private_data = greeting.data();
  parameters.private_data_len = greeting.size();
  if (rdma_connect(connection_->id(), &parameters) != 0) {
    return ErrnoStatus(errno, "connect a queue pair");
  }
  return absl::OkStatus();
}

absl::Status RdmaDialer::TakeAnswer(const RdmaEvent& event) {
  const std::span<const std::byte> shown(event.private_data.data(), event.private_bytes);
  const auto head = ReadRdmaGreeting(shown);
  if (!head.has_value() || !ProvesToken(shown, RdmaEnd::kDestination, target_.token)) {
    return absl::PermissionDeniedError(
        "whoever answered on RDMA is not the destination of this migration");
  }
  peer_rails_ = head->rails;
  if (writes() && !head->writes) {
    return absl::FailedPreconditionError(
        "the destination knows no WRITEs of the push (--rdma bulk=write): install the same "
        "Faultline "
        "on both hosts, or give bulk=read");
  }
  if (event.type == RDMA_CM_EVENT_ESTABLISHED) return absl::OkStatus();
  connection_->set_mtu_bytes_max(head->mtu_bytes);
  RETURN_IF_ERROR(connection_->BringUp());
  if (rdma_establish(connection_->id()) != 0) return ErrnoStatus(errno, "connect a queue pair");
  return absl::OkStatus();
}

void RdmaDialer::Fail(const absl::Status& status) {
  std::exchange(done_, nullptr)(Annotate(status, fmt::format("RDMA to {}", target_.peer.text())));
}

}  // namespace faultline
