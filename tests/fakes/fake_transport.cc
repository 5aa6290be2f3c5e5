#include "fakes/fake_transport.h"

#include <utility>

#include "base/check.h"
#include "fakes/fake_control_channel.h"
#include "protocol/codec.h"
#include "protocol/handshake.h"

namespace faultline {
namespace {

// While nothing gets through.
constexpr int64_t kKnockIntervalUs = 20'000;

FakeSocket::Bytes BytesOf(const Message& message) {
  FakeSocket::Bytes bytes;
  EncodeMessage(message, &bytes);
  return bytes;
}

}  // namespace

FakeSourceTransport::FakeSourceTransport(FakeNetwork* network, ManualExecutor* control,
                                         ManualExecutor* demand, ManualExecutor* bulk)
    : network_(network), control_(control), demand_(demand), bulk_(bulk) {}

FakeSourceTransport::~FakeSourceTransport() = default;

void FakeSourceTransport::Connect(const Hello& hello, int64_t timeout_us, Connected done) {
  FAULTLINE_CHECK(control_->IsCurrent());
  uint64_t number = ++attempts_begun_;
  Attempt& attempt = attempts_[number];
  attempt.done = std::move(done);
  attempt.timeout = control_->RunAfter(timeout_us, [this, number] {
    FinishConnect(number, absl::DeadlineExceededError("connecting to fake://1: no answer"));
  });
  attempt.step = control_->RunAfter(2 * network_->latency_us(),
                                    [this, number, hello] { DialControl(number, hello); });
}

void FakeSourceTransport::DialControl(uint64_t number, const Hello& hello) {
  if (network_->stalled()) {  // the kernel knocks again and again
    attempts_[number].step =
        control_->RunAfter(kKnockIntervalUs, [this, number, hello] { DialControl(number, hello); });
    return;
  }
  auto socket = Dial(hello);
  if (socket == nullptr) {
    FinishConnect(number, absl::UnavailableError("connecting to fake://1: refused; is `faultline "
                                                 "receive --listen` running there?"));
    return;
  }
  FinishConnect(number, std::make_unique<FakeControlChannel>(control_, std::move(socket), true));
}

void FakeSourceTransport::FinishConnect(uint64_t attempt,
                                        absl::StatusOr<std::unique_ptr<ControlChannel>> result) {
  auto node = attempts_.extract(attempt);
  node.mapped().done(std::move(result));
}

std::unique_ptr<FakeSocket> FakeSourceTransport::Dial(const Hello& hello) {
  auto socket = network_->Connect(hello.role);
  if (socket == nullptr) return nullptr;
  socket->set_counter(bytes_wire_);
  socket->Send(BytesOf(hello));
  return socket;
}

void FakeSourceTransport::OpenLanes(const LaneTerms& terms, int64_t timeout_us, LanesOpen done) {
  FAULTLINE_CHECK(control_->IsCurrent());
  exporter_.reset();
  push_.reset();
  opening_.emplace(Opening{});
  opening_->terms = terms;
  opening_->done = std::move(done);
  opening_->timeout = control_->RunAfter(timeout_us, [this] {
    FailLanes(absl::DeadlineExceededError("opening the lanes to fake://1: no answer"));
  });
  opening_->step = control_->RunAfter(2 * network_->latency_us(), [this] { DialLanes(); });
}

void FakeSourceTransport::DialLanes() {
  if (network_->stalled()) {
    opening_->step = control_->RunAfter(kKnockIntervalUs, [this] { DialLanes(); });
    return;
  }
  Hello hello;
  hello.migration_id = opening_->terms.id;
  hello.token = opening_->terms.token;
  hello.role = ConnectionRole::kDemand;
  opening_->demand = Dial(hello);
  hello.role = ConnectionRole::kBulk;
  opening_->bulk = Dial(hello);
  if (opening_->demand == nullptr || opening_->bulk == nullptr) {
    return FailLanes(absl::UnavailableError("opening the lanes to fake://1: refused"));
  }
  AwaitWelcome(opening_->demand.get(), &opening_->demand_welcome);
  AwaitWelcome(opening_->bulk.get(), &opening_->bulk_welcome);
}

void FakeSourceTransport::AwaitWelcome(FakeSocket* socket, bool* welcome) {
  auto on_bytes = [this, socket, welcome](const FakeSocket::Bytes& bytes) {
    auto decoded = DecodeMessage(bytes);
    if (!decoded.ok()) return FailLanes(decoded.status());
    if (const auto* error = std::get_if<PeerError>(&decoded->message)) {
      return FailLanes(StatusOfPeerError(*error));
    }
    FAULTLINE_CHECK(std::holds_alternative<Welcome>(decoded->message));
    *welcome = true;
    socket->StopReceiving();
    if (!opening_->demand_welcome || !opening_->bulk_welcome) return;
    Opening opening = std::move(*opening_);
    opening_.reset();
    exporter_ =
        std::make_unique<FakePageExporter>(demand_, std::move(opening.demand), opening.terms);
    push_ = std::make_unique<FakePushLane>(bulk_, std::move(opening.bulk), opening.terms);
    opening.done(Lanes{exporter_.get(), push_.get()});
  };
  socket->Receive(control_, on_bytes, [this](const absl::Status& status) { FailLanes(status); });
}

void FakeSourceTransport::FailLanes(absl::Status status) {
  Opening opening = std::move(*opening_);
  opening_.reset();
  opening.done(std::move(status));
}

FakeDestinationTransport::FakeDestinationTransport(FakeNetwork* network, ManualExecutor* control,
                                                   ManualExecutor* demand, ManualExecutor* bulk)
    : network_(network), control_(control), demand_(demand), bulk_(bulk) {}

FakeDestinationTransport::~FakeDestinationTransport() {
  if (listening_) network_->StopListening();
}

absl::Status FakeDestinationTransport::Listen(Arrived arrived) {
  FAULTLINE_CHECK(control_->IsCurrent() && !listening_);
  RETURN_IF_ERROR(network_->Listen(
      control_, [this](std::unique_ptr<FakeSocket> socket) { Accept(std::move(socket)); }));
  listening_ = true;
  arrived_ = std::move(arrived);
  return absl::OkStatus();
}

void FakeDestinationTransport::Accept(std::unique_ptr<FakeSocket> socket) {
  uint64_t stranger = ++strangers_seen_;
  socket->set_counter(bytes_wire_);
  FakeSocket* arriving = socket.get();
  strangers_[stranger] = std::move(socket);
  arriving->Receive(
      control_, [this, stranger](const FakeSocket::Bytes& bytes) { OnHello(stranger, bytes); },
      [this, stranger](const absl::Status&) { strangers_.erase(stranger); });
}

void FakeDestinationTransport::OnHello(uint64_t stranger, const FakeSocket::Bytes& bytes) {
  auto node = strangers_.extract(stranger);
  std::unique_ptr<FakeSocket> socket = std::move(node.mapped());
  socket->StopReceiving();
  auto decoded = DecodeMessage(bytes);
  if (!decoded.ok() || !std::holds_alternative<Hello>(decoded->message)) return;
  const auto& hello = std::get<Hello>(decoded->message);
  if (auto refusal = RefuseVersion(hello)) return socket->Send(BytesOf(*refusal));
  if (hello.role == ConnectionRole::kDemand || hello.role == ConnectionRole::kBulk) {
    if (!expected_.has_value() || hello.migration_id != expected_->terms.id ||
        hello.token != expected_->terms.token) {
      return socket->Send(
          BytesOf(PeerError{PeerErrorCode::kToken,
                            "this connection belongs to no migration that is under way here"}));
    }
    return JoinLane(hello, std::move(socket));
  }
  arrived_(hello, std::make_unique<FakeControlChannel>(control_, std::move(socket), false));
}

void FakeDestinationTransport::JoinLane(const Hello& hello, std::unique_ptr<FakeSocket> socket) {
  bool is_demand = hello.role == ConnectionRole::kDemand;
  if (!expected_->done || (is_demand ? reader_ != nullptr : push_ != nullptr)) {
    return socket->Send(
        BytesOf(PeerError{PeerErrorCode::kToken, "this migration has this lane already"}));
  }
  socket->Send(BytesOf(Welcome{kProtocolVersionMax, expected_->terms.token}));
  if (is_demand) {
    reader_ = std::make_unique<FakePageReader>(demand_, std::move(socket), expected_->terms);
  } else {
    push_ = std::make_unique<FakePushReceiver>(bulk_, std::move(socket), expected_->terms);
  }
  if (reader_ != nullptr && push_ != nullptr) FinishLanes(Lanes{reader_.get(), push_.get()});
}

void FakeDestinationTransport::ExpectLanes(const LaneTerms& terms, int64_t timeout_us,
                                           LanesOpen done) {
  FAULTLINE_CHECK(control_->IsCurrent());
  reader_.reset();
  push_.reset();
  expected_.emplace(Expected{});
  expected_->terms = terms;
  expected_->done = std::move(done);
  expected_->timeout = control_->RunAfter(timeout_us, [this] {
    FinishLanes(absl::DeadlineExceededError("waiting for the source's lanes on fake://1"));
  });
}

void FakeDestinationTransport::FinishLanes(absl::StatusOr<Lanes> lanes) {
  if (!lanes.ok()) {
    reader_.reset();
    push_.reset();
  }
  expected_->timeout.reset();
  LanesOpen done = std::exchange(expected_->done, nullptr);
  done(std::move(lanes));
}

}  // namespace faultline
