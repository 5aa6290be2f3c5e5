#include "transport/rdma/rdma_source_transport.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace faultline {
namespace {

constexpr int64_t kProgressIntervalNs = 2'000'000'000;

}  // namespace

RdmaSourceTransport::RdmaSourceTransport(const RdmaOptions& options, TcpLoops loops)
    : TcpSourceTransport(options.tcp, loops),
      page_tables_(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)) {}

RdmaSourceTransport::~RdmaSourceTransport() { DropLanes(); }

void RdmaSourceTransport::DropLanes() {
  // What registers it may be at work still: nobody uses it then.
  if (opening_ != nullptr) registered_.reset();
  opening_.reset();
  timeout_.reset();
  joined_.reset();
  exporter_.reset();
  push_.reset();
  for (Lane* lane : {&demand_, &bulk_}) {
    if (lane->link != nullptr) lane->link->Release();
    *lane = {};
  }
}

void RdmaSourceTransport::OpenLanes(const LaneTerms& terms, int64_t timeout_us, LanesOpen done) {
  FAULTLINE_CHECK(loops().control->IsOwnThread());
  DropLanes();
  TcpSourceTransport::OpenLanes(terms, timeout_us, std::move(done));
}

void RdmaSourceTransport::UseLanes(JoinedLanes joined) {
  joined_ = std::move(joined);
  const SessionToken& token = joined_->terms.token;
  if (joined_->demand.token == token || joined_->bulk.token == token) {
    return FailLanes(absl::FailedPreconditionError(
        "the destination listens on tcp://; give --to tcp://..., or let it listen on rdma://"));
  }
  opening_ = std::make_shared<bool>(true);
  absl::Status status;
  if (events_ == nullptr) {
    auto events = RdmaEvents::Make(loops().control);
    if (!events.ok()) return FailLanes(events.status());
    events_ = std::move(*events);
  }
  status = Dial(&demand_, joined_->demand, ConnectionRole::kDemand, loops().demand);
  if (status.ok()) status = Dial(&bulk_, joined_->bulk, ConnectionRole::kBulk, loops().bulk);
  if (!status.ok()) return FailLanes(status);
  const int64_t left_us = (joined_->deadline_ns - loops().control->NowNanos()) / 1000;
  timeout_ = loops().control->RunAfter(std::max<int64_t>(left_us, 0), [this] {
    FailLanes(absl::DeadlineExceededError(
        "the destination's RDMA did not answer in time; do the two devices reach each other "
        "(rping -s and rping -c try it)?"));
  });
}

absl::Status RdmaSourceTransport::Dial(Lane* lane, const JoinedLane& joined, ConnectionRole role,
                                       Loop* loop) {
  const int fd = joined.connection.fd.get();
  lane->link = std::make_shared<RdmaLink>();
  lane->dialer = std::make_unique<RdmaDialer>(
      events_.get(),
      RdmaDialer::Target{.local = LocalAddressOf(fd),
                         .peer = PeerAddressOf(fd),
                         .role = role,
                         .token = joined.token},
      [this](const rdma_cm_id& id) { return DomainOf(id); },
      [this, lane](auto connection) { OnConnected(lane, std::move(connection)); },
      [link = lane->link, loop](const absl::Status& status) {
        RdmaLink::Break(link, loop, status);
      });
  const int64_t left_ms = (joined_->deadline_ns - loops().control->NowNanos()) / 1'000'000;
  return lane->dialer->Start(static_cast<int>(std::clamp<int64_t>(left_ms, 1, 60'000)));
}

absl::StatusOr<std::shared_ptr<RdmaDomain>> RdmaSourceTransport::DomainOf(const rdma_cm_id& id) {
  if (domain_ != nullptr && domain_->context() == id.verbs) return domain_;
  ASSIGN_OR_RETURN(std::unique_ptr<RdmaDomain> made,
                   RdmaDomain::MakeBeside(id, events_.get(), loops().control,
                                          [this](const absl::Status& status) {
                                            if (demand_.link != nullptr)
                                              RdmaLink::Break(demand_.link, loops().demand, status);
                                            if (bulk_.link != nullptr)
                                              RdmaLink::Break(bulk_.link, loops().bulk, status);
                                          }));
  domain_ = std::move(made);
  return domain_;
}

void RdmaSourceTransport::OnConnected(Lane* lane,
                                      absl::StatusOr<std::unique_ptr<RdmaConnection>> connection) {
  if (!joined_.has_value()) return;
  if (!connection.ok()) return FailLanes(connection.status());
  lane->link->Establish(std::move(*connection));
  if (demand_.link->connection() == nullptr || bulk_.link->connection() == nullptr) return;
  timeout_.reset();
  BeginRegistering();
}

void RdmaSourceTransport::BeginRegistering() {
  SourceMemory* const memory = joined_->terms.memory;
  const bool done = registered_ != nullptr && &registered_->domain() == domain_.get();
  if (memory == nullptr || joined_->terms.integrity || done) return FinishLanes();
  auto registered = RegisteredMemory::Make(domain_, memory, page_tables_.get());
  if (!registered.ok()) return FailLanes(registered.status());
  registered_ = std::move(*registered);
  progress_told_ns_ = loops().control->NowNanos();
  RegisterSome();
}

// On the bulk thread, which has nothing else to do before the handover.
void RdmaSourceTransport::RegisterSome() {
  loops().bulk->Post([this, registered = registered_, wanted = std::weak_ptr<bool>(opening_)] {
    if (wanted.expired()) return;
    absl::StatusOr<bool> more = registered->RegisterSome();
    loops().control->Post([this, wanted, more = std::move(more)] {
      if (!wanted.expired()) OnRegistered(more);
    });
  });
}

void RdmaSourceTransport::OnRegistered(absl::StatusOr<bool> more) {
  if (!more.ok()) {
    registered_.reset();
    return FailLanes(more.status());
  }
  if (!*more) return FinishLanes();
  TellProgress();
  RegisterSome();
}

void RdmaSourceTransport::TellProgress() {
  const int64_t now_ns = loops().control->NowNanos();
  if (now_ns - progress_told_ns_ < kProgressIntervalNs || !options().on_notice) return;
  progress_told_ns_ = now_ns;
  options().on_notice(fmt::format("registering the VM's memory for RDMA: {} of {} MiB",
                                  registered_->bytes_registered() >> 20,
                                  registered_->bytes_wanted() >> 20));
}

void RdmaSourceTransport::FinishLanes() {
  JoinedLanes joined = std::move(*joined_);
  joined_.reset();
  opening_.reset();
  auto connection =
      std::make_unique<TcpPageExporter>(loops().demand, std::move(joined.demand.connection),
                                        Counter(&WireCounters::demand), joined.terms);
  exporter_ = std::make_unique<RdmaPageExporter>(loops().demand, std::move(connection),
                                                 demand_.link, registered_);
  push_ = std::make_unique<RdmaPushLane>(
      loops().bulk, std::move(joined.bulk.connection), bulk_.link, registered_,
      Counter(&WireCounters::bulk),
      RdmaPushLane::Settings{.bandwidth_bytes_per_second = options().bandwidth_bytes_per_second,
                             .integrity = joined.terms.integrity});
  joined.done(Lanes{exporter_.get(), push_.get()});
}

void RdmaSourceTransport::FailLanes(const absl::Status& status) {
  opening_.reset();
  timeout_.reset();
  JoinedLanes joined = std::move(*joined_);
  joined_.reset();
  joined.done(Annotate(status, fmt::format("opening the lanes to {}", options().uri.text())));
}

}  // namespace faultline
