// A source session on its own loops.
#include <utility>

#include "assembly/confined_memory.h"
#include "assembly/confinement.h"
#include "assembly/endpoint.h"
#include "assembly/parts.h"
#include "assembly/session_loops.h"
#include "engine/source_session.h"
#include "memory/ram_file_source.h"
#include "prefetch/push_orders.h"
#include "transport/rdma/rdma_transports.h"
#include "transport/tcp/tcp_source_transport.h"

namespace faultline {
namespace {

class SourceRunner : public Session {
 public:
  SourceRunner(SourceParts parts, const Endpoint& endpoint, std::unique_ptr<PushOrder> push_order)
      : push_order_(std::move(push_order)),
        parts_(std::move(parts)),
        loops_(parts_.poll_us),
        vmm_(parts_.vmm(loops_.control)),
        confinement_({.on = parts_.confine, .side = ConfinedSide::kSource, .rdma = endpoint.rdma},
                     &loops_) {}

  // Before Run.
  absl::Status MakeTransport(Endpoint endpoint) {
    const TcpLoops loops{&loops_.control, &loops_.demand, &loops_.bulk};
    TcpOptions options{.uri = std::move(endpoint.uri),
                       .bandwidth_bytes_per_second = parts_.bandwidth,
                       .compression = parts_.compression,
                       .tls = std::move(endpoint.tls),
                       .on_notice = [this](const std::string& text) { observer_->OnNotice(text); }};
    if (!endpoint.rdma) {
      transport_ = std::make_unique<TcpSourceTransport>(std::move(options), loops);
      return absl::OkStatus();
    }
    ASSIGN_OR_RETURN(transport_, MakeRdmaSourceTransport({.tcp = std::move(options),
                                                          .uri = std::move(endpoint.rdma_uri),
                                                          .rails = std::move(endpoint.rdma_rails),
                                                          .tuning = std::move(endpoint.tuning)},
                                                         loops));
    return absl::OkStatus();
  }

  SessionResult Run(SessionObserver* observer) override {
    observer_ = observer;
    confinement_.BeginSetUp([observer](const std::string& text) { observer->OnNotice(text); });
    SourceSession::Parts parts;
    parts.control = &loops_.control;
    parts.demand = &loops_.demand;
    parts.bulk = &loops_.bulk;
    parts.vmm = vmm_.get();
    parts.memory_factory = &confined_memory_factory_;
    parts.transport = transport_.get();
    parts.tracker_factory = parts_.tracker.get();
    parts.push_order = std::move(push_order_);
    parts.journal = parts_.journal;
    parts.observer = observer;
    SourceSession::Options options;
    options.id = parts_.id;
    options.quit_source = parts_.quit_source;
    options.integrity = parts_.integrity;
    options.mode = parts_.mode;
    options.budgets = parts_.budgets;
    if (parts_.resume.has_value()) {
      options.resume = {.token = parts_.resume->token, .run = parts_.resume->run};
    }
    options.limits.connect_timeout_us = parts_.connect_timeout_us;
    options.limits.recovery_timeout_us = parts_.recovery_timeout_us;
    session_ = std::make_unique<SourceSession>(std::move(parts), std::move(options));
    return loops_.Run(session_.get());
  }

  void Cancel(const std::string& reason) override {
    loops_.control.Post([this, reason] { session_->Cancel(reason); });
  }
  void SwitchNow() override {
    loops_.control.Post([this] { session_->SwitchNow(); });
  }

 private:
  std::unique_ptr<PushOrder> push_order_;  // until Run
  const SourceParts parts_;
  SessionLoops loops_;
  SessionObserver* observer_ = nullptr;  // from Run on
  RamFileSourceFactory memory_factory_;
  std::unique_ptr<SourceTransport> transport_;
  std::unique_ptr<SourceVmm> vmm_;
  Confinement confinement_;
  ConfinedSourceMemoryFactory confined_memory_factory_{&memory_factory_, &confinement_};
  std::unique_ptr<SourceSession> session_;  // from Run on
};

}  // namespace

absl::StatusOr<std::unique_ptr<Session>> MakeSourceSession(SourceParts parts) {
  ASSIGN_OR_RETURN(Endpoint endpoint, SecureEndpoint(parts.uri, parts.insecure, parts.tls,
                                                     TlsRole::kSource, parts.rdma));
  ASSIGN_OR_RETURN(std::unique_ptr<PushOrder> order, MakePushOrder(parts.push_order));
  if (endpoint.rdma) RETURN_IF_ERROR(FitForRdma(&parts.integrity, parts.compression, parts.mode));
  auto runner = std::make_unique<SourceRunner>(std::move(parts), endpoint, std::move(order));
  RETURN_IF_ERROR(runner->MakeTransport(std::move(endpoint)));
  return runner;
}

}  // namespace faultline
