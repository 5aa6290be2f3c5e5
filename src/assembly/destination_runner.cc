// A destination session on its own loops.
#include <utility>

#include "assembly/confined_memory.h"
#include "assembly/confinement.h"
#include "assembly/endpoint.h"
#include "assembly/parts.h"
#include "assembly/random_bytes.h"
#include "assembly/session_loops.h"
#include "engine/destination_session.h"
#include "transport/rdma/rdma_transports.h"
#include "transport/tcp/tcp_destination_transport.h"

namespace faultline {
namespace {

class DestinationRunner : public Session {
 public:
  DestinationRunner(DestinationParts parts, const Endpoint& endpoint, const SessionToken& token)
      : parts_(std::move(parts)),
        token_(token),
        loops_(parts_.poll_us),
        vmm_(parts_.vmm(loops_.control)),
        confinement_({.on = parts_.confine,
                      .side = ConfinedSide::kDestination,
                      .huge_pages = parts_.huge_pages,
                      .rdma = endpoint.rdma},
                     &loops_),
        memory_factory_(parts_.memory(loops_.demand, loops_.demand), &confinement_) {}

  // Before Run.
  absl::Status MakeTransport(Endpoint endpoint) {
    const TcpLoops loops{&loops_.control, &loops_.demand, &loops_.bulk};
    TcpOptions options{.uri = std::move(endpoint.uri),
                       .tls = std::move(endpoint.tls),
                       .on_notice = [this](const std::string& text) { observer_->OnNotice(text); }};
    if (!endpoint.rdma) {
      transport_ = std::make_unique<TcpDestinationTransport>(std::move(options), loops);
      return absl::OkStatus();
    }
    ASSIGN_OR_RETURN(transport_,
                     MakeRdmaDestinationTransport({.tcp = std::move(options),
                                                   .uri = std::move(endpoint.rdma_uri),
                                                   .rails = std::move(endpoint.rdma_rails),
                                                   .tuning = std::move(endpoint.tuning)},
                                                  loops));
    return absl::OkStatus();
  }

  SessionResult Run(SessionObserver* observer) override {
    observer_ = observer;
    confinement_.BeginSetUp([observer](const std::string& text) { observer->OnNotice(text); });
    DestinationSession::Parts parts;
    parts.control = &loops_.control;
    parts.demand = &loops_.demand;
    parts.bulk = &loops_.bulk;
    parts.vmm = vmm_.get();
    parts.memory_factory = &memory_factory_;
    parts.transport = transport_.get();
    parts.journal = parts_.journal;
    parts.observer = observer;
    DestinationSession::Options options;
    options.token = token_;
    if (parts_.resume.has_value()) {
      options.resume = {.id = parts_.resume->id,
                        .committed = parts_.resume_committed,
                        .whole = parts_.resume_whole,
                        .released = parts_.resume_released};
    }
    if (!parts_.read_around) options.read_around = ReadAround::Always(0);
    options.huge_pages = parts_.huge_pages;
    options.integrity = parts_.integrity;
    options.limits.recovery_timeout_us = parts_.recovery_timeout_us;
    session_ = std::make_unique<DestinationSession>(parts, std::move(options));
    return loops_.Run(session_.get());
  }

  void Cancel(const std::string& reason) override {
    loops_.control.Post([this, reason] { session_->Cancel(reason); });
  }

 private:
  const DestinationParts parts_;
  const SessionToken token_;
  SessionLoops loops_;
  SessionObserver* observer_ = nullptr;  // from Run on, and nobody listens before
  std::unique_ptr<DestinationTransport> transport_;
  std::unique_ptr<DestinationVmm> vmm_;
  Confinement confinement_;
  ConfinedGuestMemoryFactory memory_factory_;
  std::unique_ptr<DestinationSession> session_;  // from Run on
};

}  // namespace

absl::StatusOr<std::unique_ptr<Session>> MakeDestinationSession(DestinationParts parts) {
  ASSIGN_OR_RETURN(Endpoint endpoint, SecureEndpoint(parts.uri, parts.insecure, parts.tls,
                                                     TlsRole::kDestination, parts.rdma));
  SessionToken token;
  if (parts.resume.has_value()) {
    token = parts.resume->token;
  } else {
    RETURN_IF_ERROR(FillRandom(&token));
  }
  if (endpoint.rdma) RETURN_IF_ERROR(FitForRdma(&parts.integrity));
  auto runner = std::make_unique<DestinationRunner>(std::move(parts), endpoint, token);
  RETURN_IF_ERROR(runner->MakeTransport(std::move(endpoint)));
  return runner;
}

}  // namespace faultline
