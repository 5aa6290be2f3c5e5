#include "transport/rdma/rdma_source_transport.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "base/check.h"
#include "protocol/handshake.h"
#include "transport/rdma/memory_lock_limit.h"
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
      rail_uris_(options.rails),
      tuning_(options.tuning),
      page_tables_(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)),
      rails_(
          loops, tuning_,
          [this](const std::string& text) {
            if (this->options().on_notice) this->options().on_notice(text);
          },
          [this](const absl::Status& status) { OnDeviceTrouble(status); }),
      registered_(1 + rail_uris_.size()) {}

RdmaSourceTransport::~RdmaSourceTransport() { DropLanes(); }

void RdmaSourceTransport::DropLanes() {
  StopRegistering();
  opening_.reset();
  joined_.reset();
  exporter_.reset();
  push_.reset();
  rails_.Drop();
}

// What registers it may be at work still: nobody uses it then.
void RdmaSourceTransport::StopRegistering() {
  for (const size_t rail : std::exchange(registering_, {})) {
    const std::shared_ptr<RegisteredMemory> unfinished = registered_[rail];
    std::ranges::replace(registered_, unfinished, nullptr);
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

int RdmaSourceTransport::broken_in_a_row_max() const {
  // Of several rails each is tried alone.
  return kBrokenInARowMax + static_cast<int>(rail_uris_.empty() ? 0 : registered_.size());
}

void RdmaSourceTransport::UseLanes(JoinedLanes joined) {
  joined_ = std::move(joined);
  const SessionToken& token = joined_->terms.token;
  if (SameToken(joined_->demand.token, token) || SameToken(joined_->bulk.token, token)) {
    return FailLanes(absl::FailedPreconditionError(
        "the destination listens on tcp://; give --to tcp://..., or let it listen on rdma://"));
  }
  if (MayFallBack() && broken_in_a_row_ >= broken_in_a_row_max()) {
    broken_in_a_row_ = kBrokenInARowMax - 1;  // the next lanes have one try
    return FailLanes(absl::UnavailableError("it broke again soon after it was connected"));
  }
  const bool one_by_one = joined_->terms.handed_over && !rail_uris_.empty();
  if (!one_by_one || broken_in_a_row_ < kBrokenInARowMax) return ConnectRails(std::nullopt);
  ConnectRails(static_cast<size_t>(broken_in_a_row_ - kBrokenInARowMax) % registered_.size());
}

absl::StatusOr<std::vector<RdmaSourceRails::Address>> RdmaSourceTransport::RailAddresses() const {
  const int fd = joined_->bulk.connection.fd.get();
  std::vector<RdmaSourceRails::Address> addresses;
  TcpUri beside = options().uri;
  if (uri_.has_value()) {
    ASSIGN_OR_RETURN(const std::vector<SocketAddress> peers, RdmaAddressesOf(*uri_, beside));
    addresses.push_back({peers.front(), std::nullopt});
    if (uri_->port != 0) beside.port = uri_->port;
  } else {
    addresses.push_back({PeerAddressOf(fd), LocalAddressOf(fd)});
  }
  for (const TcpUri& rail : rail_uris_) {
    ASSIGN_OR_RETURN(const std::vector<SocketAddress> peers, RdmaAddressesOf(rail, beside));
    addresses.push_back({peers.front(), std::nullopt});
  }
  return addresses;
}

void RdmaSourceTransport::ConnectRails(std::optional<size_t> only) {
  ForgetDead();
  opening_ = std::make_shared<bool>(true);
  all_connected_ = false;
  auto addresses = RailAddresses();
  if (!addresses.ok()) return FailLanes(addresses.status());
  RdmaSourceRails::Terms terms{.addresses = *std::move(addresses),
                               .rails = {},
                               .demand = joined_->demand.token,
                               .bulk = joined_->bulk.token,
                               .migration = joined_->terms.token,
                               .all_wanted = !joined_->terms.handed_over,
                               .timeout_ns = joined_->deadline_ns - loops().control->NowNanos()};
  for (size_t rail = 0; rail < terms.addresses.size(); ++rail) {
    if (!only.has_value() || only == rail) terms.rails.push_back(rail);
  }
  if (MayFallBack() || (joined_->terms.handed_over && terms.rails.size() > 1)) {
    terms.timeout_ns = std::min(terms.timeout_ns, kDialAfterHandoverNs);
  }
  rails_.Connect(std::move(terms), [this](const absl::Status& status) {
    if (!status.ok()) return FailLanes(status);
    BeginRegistering();
  });
}

// Of what still lives the registrations stay: a rail's device is its own.
void RdmaSourceTransport::ForgetDead() {
  for (auto& registered : registered_) {
    if (registered == nullptr) continue;
    if (rails_.broken() || registered->domain().is_dead()) registered.reset();
  }
  rails_.ForgetDead();
}

// Lanes that were given out have heard of it on their threads.
void RdmaSourceTransport::OnDeviceTrouble(const absl::Status& status) {
  if (joined_.has_value() && opening_ != nullptr) FailLanes(status);
}

void RdmaSourceTransport::BeginRegistering() {
  if (joined_->terms.memory == nullptr || joined_->terms.integrity) return FinishLanes();
  if (absl::Status status = PlanRegistering(); !status.ok()) return FailLanes(status);
  if (registering_.empty()) return FinishLanes();
  all_connected_ = true;
  progress_told_ns_ = loops().control->NowNanos();
  RegisterSome();
}

absl::Status RdmaSourceTransport::PlanRegistering() {
  std::vector<size_t> rails = rails_.connected();
  rails.push_back(rails_.demand_rail());
  for (const size_t rail : rails) RETURN_IF_ERROR(PlanRail(rail));
  if (registering_.empty()) return absl::OkStatus();
  // The kernel counts a page as often as it is pinned.
  uint64_t bytes = 0;
  std::set<const RegisteredMemory*> devices;
  for (const auto& registered : registered_) {
    if (registered == nullptr || !devices.insert(registered.get()).second) continue;
    bytes += registered->bytes_wanted();
  }
  return CheckMemoryLockLimit(
      bytes, devices.size() == 1
                 ? "the VM's memory"
                 : fmt::format("the VM's memory once for each of {} devices", devices.size()));
}

absl::Status RdmaSourceTransport::PlanRail(size_t rail) {
  const std::shared_ptr<RdmaDomain>& domain = rails_.domain(rail);
  const auto is_of_device = [&](const std::shared_ptr<RegisteredMemory>& registered) {
    return registered != nullptr && &registered->domain() == domain.get();
  };
  if (is_of_device(registered_[rail])) return absl::OkStatus();
  const auto same = std::ranges::find_if(registered_, is_of_device);
  if (same != registered_.end()) {
    registered_[rail] = *same;
    return absl::OkStatus();
  }
  registered_[rail].reset();
  ASSIGN_OR_RETURN(registered_[rail],
                   RegisteredMemory::Make(domain, joined_->terms.memory, rail, page_tables_.get()));
  registering_.push_back(rail);
  return absl::OkStatus();
}

// On the bulk thread, which has nothing else to do before the handover.
void RdmaSourceTransport::RegisterSome() {
  loops().bulk->Post([this, registered = registered_[registering_.front()],
                      wanted = std::weak_ptr<bool>(opening_)] {
    if (wanted.expired()) return;
    absl::StatusOr<bool> more = registered->RegisterSome();
    loops().control->Post([this, wanted, more = std::move(more)] {
      if (!wanted.expired()) OnRegistered(more);
    });
  });
}

void RdmaSourceTransport::OnRegistered(absl::StatusOr<bool> more) {
  if (!more.ok()) return FailLanes(more.status());
  if (!*more) registering_.pop_front();
  if (registering_.empty()) return FinishLanes();
  TellProgress();
  RegisterSome();
}

void RdmaSourceTransport::TellProgress() {
  const int64_t now_ns = loops().control->NowNanos();
  if (now_ns - progress_told_ns_ < kProgressIntervalNs || !options().on_notice) return;
  progress_told_ns_ = now_ns;
  const RegisteredMemory& registered = *registered_[registering_.front()];
  options().on_notice(fmt::format(
      "registering the VM's memory for RDMA on {}: {} of {} MiB", registered.domain().device_name(),
      registered.bytes_registered() >> 20, registered.bytes_wanted() >> 20));
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
  auto connection =
      std::make_unique<TcpPageExporter>(loops().demand, std::move(joined.demand.connection),
                                        Counter(&WireCounters::demand), joined.terms);
  const std::shared_ptr<RdmaLink> demand_link =
      uses_rdma_ ? rails_.demand_link() : std::make_shared<RdmaLink>();
  exporter_ =
      std::make_unique<RdmaPageExporter>(loops().demand, std::move(connection), demand_link,
                                         uses_rdma_ ? registered_[rails_.demand_rail()] : nullptr);
  push_ = MakePush(&joined);
  joined.done(Lanes{exporter_.get(), push_.get()});
}

std::unique_ptr<PushLane> RdmaSourceTransport::MakePush(JoinedLanes* joined) {
  const uint64_t bandwidth = options().bandwidth_bytes_per_second;
  const bool integrity = joined->terms.integrity;
  WireCounter counter = Counter(&WireCounters::bulk);
  if (!uses_rdma_) {
    // Bounds what it has queued ahead of demand pages. A destination of RDMA takes no packed runs.
    return std::make_unique<TcpPushLane>(
        loops().bulk, std::move(joined->bulk.connection), counter,
        TcpPushLane::Settings{.bandwidth_bytes_per_second = bandwidth,
                              .compression = Compression::kOff,
                              .integrity = integrity});
  }
  std::vector<RdmaPushRail> push_rails;
  for (const size_t rail : rails_.connected()) {
    push_rails.push_back({static_cast<uint16_t>(rail), rails_.bulk_link(rail), registered_[rail]});
  }
  return std::make_unique<RdmaPushLane>(
      loops().bulk, std::move(joined->bulk.connection), std::move(push_rails), counter,
      RdmaPushLane::Settings{.bandwidth_bytes_per_second = bandwidth, .integrity = integrity});
}

void RdmaSourceTransport::FailLanes(const absl::Status& status) {
  StopRegistering();
  opening_.reset();
  if (MayFallBack()) {
    // The peer has taken the queue pairs for good, and gives these lanes up as they go: the next
    // ones have none.
    if (all_connected_) broken_in_a_row_ = broken_in_a_row_max();
    rails_.Drop();
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
