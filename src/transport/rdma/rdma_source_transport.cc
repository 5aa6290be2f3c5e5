#include "transport/rdma/rdma_source_transport.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "protocol/handshake.h"
#include "transport/rdma/rdma_place.h"

namespace faultline {
namespace {

constexpr int64_t kProgressIntervalNs = 2'000'000'000;
// After the handover a VM waits: in that time an RDMA that works has answered.
constexpr int64_t kDialAfterHandoverNs = 3'000'000'000;
// Lanes that broke sooner count as RDMA that keeps failing, and so many of them end the trying.
constexpr int64_t kShortLivedNs = 30'000'000'000;
constexpr int kBrokenInARowMax = 2;

}  // namespace

RdmaSourceTransport::RdmaSourceTransport(const RdmaOptions& options, TcpLoops loops)
    : TcpSourceTransport(options.tcp, loops),
      uri_(options.uri),
      tuning_(options.tuning),
      page_tables_(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)) {}

RdmaSourceTransport::~RdmaSourceTransport() { DropLanes(); }

void RdmaSourceTransport::DropLanes() {
  // What registers it may be at work still: nobody uses it then.
  if (std::exchange(registering_, false)) registered_.reset();
  opening_.reset();
  timeout_.reset();
  joined_.reset();
  exporter_.reset();
  push_.reset();
  DropQueuePairs();
}

void RdmaSourceTransport::DropQueuePairs() {
  for (Lane* lane : {&demand_, &bulk_}) {
    if (lane->link != nullptr) lane->link->Release();
    *lane = {};
  }
}

void RdmaSourceTransport::OpenLanes(const LaneTerms& terms, int64_t timeout_us, LanesOpen done) {
  FAULTLINE_CHECK(loops().control->IsOwnThread());
  DropLanes();
  if (std::exchange(uses_rdma_, false)) {
    const bool soon = loops().control->NowNanos() - given_out_ns_ < kShortLivedNs;
    broken_in_a_row_ = soon ? broken_in_a_row_ + 1 : 1;
  }
  TcpSourceTransport::OpenLanes(terms, timeout_us, std::move(done));
}

bool RdmaSourceTransport::MayFallBack() const {
  return tuning_.fall_back && joined_->terms.handed_over;
}

void RdmaSourceTransport::UseLanes(JoinedLanes joined) {
  joined_ = std::move(joined);
  const SessionToken& token = joined_->terms.token;
  if (SameToken(joined_->demand.token, token) || SameToken(joined_->bulk.token, token)) {
    return FailLanes(absl::FailedPreconditionError(
        "the destination listens on tcp://; give --to tcp://..., or let it listen on rdma://"));
  }
  if (MayFallBack() && broken_in_a_row_ >= kBrokenInARowMax) {
    broken_in_a_row_ = kBrokenInARowMax - 1;  // the next lanes have one try
    return FailLanes(absl::UnavailableError("it broke again soon after it was connected"));
  }
  DialBoth();
}

absl::Status RdmaSourceTransport::MakeEvents() {
  if (std::exchange(events_broken_, false)) {
    registered_.reset();
    domain_.reset();
    events_.reset();
  }
  if (events_ != nullptr) return absl::OkStatus();
  ASSIGN_OR_RETURN(events_, RdmaEvents::Make(loops().control, [this](const absl::Status& status) {
                     events_broken_ = true;
                     OnDeviceTrouble(status);
                   }));
  return absl::OkStatus();
}

void RdmaSourceTransport::DialBoth() {
  opening_ = std::make_shared<bool>(true);
  both_connected_ = false;
  if (MayFallBack()) {
    joined_->deadline_ns =
        std::min(joined_->deadline_ns, loops().control->NowNanos() + kDialAfterHandoverNs);
  }
  absl::Status status = MakeEvents();
  if (status.ok())
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

// Lanes that are being opened fail; those that were given out hear of it on their threads.
void RdmaSourceTransport::OnDeviceTrouble(const absl::Status& status) {
  if (joined_.has_value() && opening_ != nullptr) return FailLanes(status);
  if (!uses_rdma_) return;
  RdmaLink::Break(demand_.link, loops().demand, status);
  RdmaLink::Break(bulk_.link, loops().bulk, status);
}

absl::Status RdmaSourceTransport::Dial(Lane* lane, const JoinedLane& joined, ConnectionRole role,
                                       Loop* loop) {
  const int fd = joined.connection.fd.get();
  RdmaDialer::Target target{
      .peer = PeerAddressOf(fd), .role = role, .token = joined.token, .tuning = tuning_};
  if (uri_.has_value()) {
    ASSIGN_OR_RETURN(const std::vector<SocketAddress> peers, RdmaAddressesOf(*uri_, options().uri));
    target.peer = peers.front();
  } else {
    target.local = LocalAddressOf(fd);
  }
  ASSIGN_OR_RETURN(target.local, AddressToUse(tuning_, target.local));
  lane->link = std::make_shared<RdmaLink>();
  lane->dialer = std::make_unique<RdmaDialer>(
      events_.get(), std::move(target), [this](const rdma_cm_id& id) { return DomainOf(id); },
      [this, lane](auto connection) { OnConnected(lane, std::move(connection)); },
      [link = lane->link, loop](const absl::Status& status) {
        RdmaLink::Break(link, loop, status);
      });
  const int64_t left_ms = (joined_->deadline_ns - loops().control->NowNanos()) / 1'000'000;
  return lane->dialer->Start(static_cast<int>(std::clamp<int64_t>(left_ms, 1, 60'000)));
}

absl::StatusOr<std::shared_ptr<RdmaDomain>> RdmaSourceTransport::DomainOf(const rdma_cm_id& id) {
  if (domain_ != nullptr && domain_->context() == id.verbs) return domain_;
  ASSIGN_OR_RETURN(
      std::unique_ptr<RdmaDomain> made,
      RdmaDomain::MakeBeside(id, events_.get(), loops().control,
                             [this](const absl::Status& status) { OnDeviceTrouble(status); }));
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
  registering_ = true;
  both_connected_ = true;
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
  if (!more.ok() || !*more) registering_ = false;
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
  uses_rdma_ = true;
  GiveOut();
}

void RdmaSourceTransport::GiveOut() {
  JoinedLanes joined = std::move(*joined_);
  joined_.reset();
  opening_.reset();
  given_out_ns_ = loops().control->NowNanos();
  const std::shared_ptr<RegisteredMemory> readable = uses_rdma_ ? registered_ : nullptr;
  auto connection =
      std::make_unique<TcpPageExporter>(loops().demand, std::move(joined.demand.connection),
                                        Counter(&WireCounters::demand), joined.terms);
  exporter_ = std::make_unique<RdmaPageExporter>(loops().demand, std::move(connection),
                                                 demand_.link, readable);
  push_ = std::make_unique<RdmaPushLane>(
      loops().bulk, std::move(joined.bulk.connection), bulk_.link, readable,
      Counter(&WireCounters::bulk),
      RdmaPushLane::Settings{.bandwidth_bytes_per_second = options().bandwidth_bytes_per_second,
                             .integrity = joined.terms.integrity});
  joined.done(Lanes{exporter_.get(), push_.get()});
}

void RdmaSourceTransport::FailLanes(const absl::Status& status) {
  if (std::exchange(registering_, false)) registered_.reset();
  opening_.reset();
  timeout_.reset();
  if (MayFallBack()) {
    // The peer has taken the queue pairs for good, and gives these lanes up as they go: the next
    // ones have none.
    if (both_connected_) broken_in_a_row_ = kBrokenInARowMax;
    DropQueuePairs();
    demand_.link = std::make_shared<RdmaLink>();
    bulk_.link = std::make_shared<RdmaLink>();
    if (options().on_notice) {
      options().on_notice(fmt::format("no RDMA to {} ({}): the VM's memory goes over TCP",
                                      uri_.value_or(options().uri).host_port(), MessageOf(status)));
    }
    return GiveOut();
  }
  JoinedLanes joined = std::move(*joined_);
  joined_.reset();
  joined.done(Annotate(status, fmt::format("opening the lanes to {}", options().uri.text())));
}

}  // namespace faultline
