#include "transport/tcp/tcp_source_transport.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "protocol/handshake.h"
#include "transport/tcp/tcp_control_channel.h"
#include "transport/tcp/tcp_socket.h"

namespace faultline {
namespace {

const char* LaneName(const Hello& hello) {
  return hello.role == ConnectionRole::kDemand ? "demand" : "bulk";
}

}  // namespace

TcpSourceTransport::TcpSourceTransport(TcpOptions options, TcpLoops loops)
    : options_(std::move(options)), loops_(loops) {}

TcpSourceTransport::~TcpSourceTransport() = default;

WireCounter TcpSourceTransport::Counter(std::atomic<uint64_t> WireCounters::*kind) const {
  return {counters_, &(counters_.get()->*kind)};
}

void TcpSourceTransport::Connect(const Hello& hello, int64_t timeout_us, Connected done) {
  FAULTLINE_CHECK(loops_.control->IsOwnThread());
  uint64_t attempt = ++attempts_begun_;
  auto on_done = [this, attempt, hello,
                  done = std::move(done)](absl::StatusOr<TcpConnection> connection) {
    auto dialer = dialers_.extract(attempt);  // goes at the end, with this task
    if (!connection.ok()) return done(connection.status());
    if (absl::Status status = TuneTcp(connection->fd.get(), TcpUse::kControl); !status.ok()) {
      return done(status);
    }
    auto channel = std::make_unique<TcpControlChannel>(loops_.control, std::move(*connection),
                                                       Counter(&WireCounters::control));
    channel->Send(hello);
    done(std::move(channel));
  };
  dialers_[attempt] = Dial(timeout_us, std::move(on_done));
}

std::unique_ptr<TcpDialer> TcpSourceTransport::Dial(int64_t timeout_us, TcpDialer::Done done) {
  return std::make_unique<TcpDialer>(
      loops_.control,
      TcpDialer::Target{options_.uri, options_.tls, Counter(&WireCounters::control)}, timeout_us,
      std::move(done));
}

void TcpSourceTransport::OpenLanes(const LaneTerms& terms, int64_t timeout_us, LanesOpen done) {
  FAULTLINE_CHECK(loops_.control->IsOwnThread());
  packed_before_ = bytes_packed();
  exporter_.reset();
  push_.reset();
  opening_.emplace(Opening{});
  opening_->terms = terms;
  opening_->deadline_ns = loops_.control->NowNanos() + timeout_us * 1000;
  opening_->done = std::move(done);
  for (LaneOpening* lane : {&opening_->demand, &opening_->bulk}) {
    lane->hello.migration_id = terms.id;
    lane->hello.token = terms.token;
  }
  opening_->demand.hello.role = ConnectionRole::kDemand;
  opening_->bulk.hello.role = ConnectionRole::kBulk;
  OpenLane(&opening_->demand);
  OpenLane(&opening_->bulk);
}

PackedBytes TcpSourceTransport::bytes_packed() const {
  PackedBytes packed = packed_before_;
  if (push_ != nullptr) {
    packed.in += push_->bytes_packed().in;
    packed.out += push_->bytes_packed().out;
  }
  return packed;
}

void TcpSourceTransport::OpenLane(LaneOpening* lane) {
  int64_t timeout_us = (opening_->deadline_ns - loops_.control->NowNanos()) / 1000;
  lane->dialer = Dial(timeout_us, [this, lane](absl::StatusOr<TcpConnection> connection) {
    if (!connection.ok()) return FailLanes(*lane, connection.status());
    OnLaneConnected(lane, std::move(*connection));
  });
}

void TcpSourceTransport::OnLaneConnected(LaneOpening* lane, TcpConnection connection) {
  TcpUse use = lane == &opening_->demand ? TcpUse::kDemand : TcpUse::kBulk;
  if (absl::Status status = TuneTcp(connection.fd.get(), use); !status.ok()) {
    return FailLanes(*lane, status);
  }
  lane->greeting = std::make_unique<TcpGreeting>(loops_.control, std::move(connection),
                                                 Counter(&WireCounters::control));
  lane->greeting->Send(lane->hello);
  int64_t left_us = (opening_->deadline_ns - loops_.control->NowNanos()) / 1000;
  lane->greeting->Receive(std::max<int64_t>(left_us, 0),
                          [this, lane](const absl::StatusOr<Message>& answer) {
                            if (!answer.ok()) return FailLanes(*lane, answer.status());
                            OnLaneAnswered(lane, *answer);
                          });
}

void TcpSourceTransport::OnLaneAnswered(LaneOpening* lane, const Message& answer) {
  if (const auto* error = std::get_if<PeerError>(&answer)) {
    return FailLanes(*lane, StatusOfPeerError(*error));
  }
  if (!std::holds_alternative<Welcome>(answer)) {
    return FailLanes(*lane, absl::InvalidArgumentError(fmt::format(
                                "the peer answered with a {} message", MessageName(answer))));
  }
  lane->welcome = true;
  lane->token = std::get<Welcome>(answer).token;
  if (opening_->demand.welcome && opening_->bulk.welcome) FinishLanes();
}

void TcpSourceTransport::FinishLanes() {
  Opening opening = std::move(*opening_);
  opening_.reset();
  UseLanes({.terms = std::move(opening.terms),
            .deadline_ns = opening.deadline_ns,
            .demand = {opening.demand.greeting->Release(), opening.demand.token},
            .bulk = {opening.bulk.greeting->Release(), opening.bulk.token},
            .done = std::move(opening.done)});
}

void TcpSourceTransport::UseLanes(JoinedLanes joined) {
  const SessionToken& token = joined.terms.token;
  if (!SameToken(joined.demand.token, token) || !SameToken(joined.bulk.token, token)) {
    return joined.done(absl::FailedPreconditionError(
        fmt::format("opening the lanes to {}: the destination listens on rdma://; give --to "
                    "rdma://{} or let it listen on tcp://",
                    options_.uri.text(), options_.uri.host_port())));
  }
  exporter_ = std::make_unique<TcpPageExporter>(loops_.demand, std::move(joined.demand.connection),
                                                Counter(&WireCounters::demand), joined.terms);
  push_ = std::make_unique<TcpPushLane>(
      loops_.bulk, std::move(joined.bulk.connection), Counter(&WireCounters::bulk),
      TcpPushLane::Settings{.bandwidth_bytes_per_second = options_.bandwidth_bytes_per_second,
                            .compression = options_.compression,
                            .integrity = joined.terms.integrity});
  joined.done(Lanes{exporter_.get(), push_.get()});
}

void TcpSourceTransport::FailLanes(const LaneOpening& lane, const absl::Status& status) {
  absl::Status error = Annotate(
      status, fmt::format("opening the {} lane to {}", LaneName(lane.hello), options_.uri.text()));
  Opening opening = std::move(*opening_);
  opening_.reset();
  opening.done(error);
}

}  // namespace faultline
