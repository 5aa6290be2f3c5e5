#include "transport/rdma/rdma_dialer.h"

#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "transport/rdma/rdma_greeting.h"

namespace faultline {
namespace {

// The peer's READs that this end's device serves at a time.
constexpr int kReadsServedMax = 64;
// 4.096 us * 2^16: about 0.27 s for each of the retries.
constexpr uint8_t kAckTimeout = 16;
constexpr uint8_t kRetriesMax = 7;

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
  uint8_t ack_timeout = kAckTimeout;
  rdma_set_option(id_.get(), RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &ack_timeout,
                  sizeof(ack_timeout));                      // older kernels have their own
  SocketAddress local = target_.local, peer = target_.peer;  // the library takes them without const
  if (local.storage.ss_family == AF_INET6) {
    reinterpret_cast<sockaddr_in6*>(&local.storage)->sin6_port = 0;
  } else {
    reinterpret_cast<sockaddr_in*>(&local.storage)->sin_port = 0;
  }
  if (rdma_resolve_addr(id_.get(), reinterpret_cast<sockaddr*>(&local.storage),
                        reinterpret_cast<sockaddr*>(&peer.storage), timeout_ms) != 0) {
    return Annotate(ErrnoStatus(errno, fmt::format("find an RDMA device for {}", local.text())),
                    "no RDMA device has that address; `rdma link` and `ip address` show which have "
                    "one");
  }
  return absl::OkStatus();
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
  } else if (event.type == RDMA_CM_EVENT_ESTABLISHED) {
    status = CheckAnswer(event);
    if (status.ok()) return std::exchange(done_, nullptr)(std::move(connection_));
  } else {
    status = absl::UnavailableError(event.text());
  }
  if (!status.ok()) Fail(status);
}

absl::Status RdmaDialer::Connect() {
  ASSIGN_OR_RETURN(std::shared_ptr<RdmaDomain> domain, domain_of_(*id_));
  const int reads_served = std::min(domain->limits().max_qp_rd_atom, kReadsServedMax);
  ASSIGN_OR_RETURN(connection_,
                   RdmaConnection::Make(std::move(id_), std::move(domain), /*reads_max=*/0));
  const RdmaGreeting greeting = MakeRdmaGreeting(RdmaEnd::kSource, target_.role, target_.token);
  rdma_conn_param parameters{};
  parameters.private_data = greeting.data();
  parameters.private_data_len = greeting.size();
  parameters.responder_resources = static_cast<uint8_t>(reads_served);
  parameters.retry_count = kRetriesMax;
  parameters.rnr_retry_count = kRetriesMax;
  if (rdma_connect(connection_->id(), &parameters) != 0) {
    return ErrnoStatus(errno, "connect a queue pair");
  }
  return absl::OkStatus();
}

absl::Status RdmaDialer::CheckAnswer(const RdmaEvent& event) const {
  const std::span<const std::byte> shown(event.private_data.data(), event.private_bytes);
  if (ReadRdmaGreeting(shown).has_value() &&
      ProvesToken(shown, RdmaEnd::kDestination, target_.token)) {
    return absl::OkStatus();
  }
  return absl::PermissionDeniedError(
      "whoever answered on RDMA is not the destination of this migration");
}

void RdmaDialer::Fail(const absl::Status& status) {
  std::exchange(done_, nullptr)(Annotate(status, fmt::format("RDMA to {}", target_.peer.text())));
}

}  // namespace faultline
