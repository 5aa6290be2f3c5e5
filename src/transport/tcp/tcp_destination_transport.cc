#include "transport/tcp/tcp_destination_transport.h"

#include <fmt/format.h>

#include <cerrno>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "protocol/handshake.h"
#include "transport/tcp/crowding.h"
#include "transport/tcp/tcp_control_channel.h"
#include "transport/tcp/tcp_socket.h"

namespace faultline {
namespace {

constexpr int kAcceptsPerTurnMax = 16;
constexpr int64_t kAcceptPauseUs = 100'000;
// Somebody who tries again and again must not fill the screen.
constexpr int kNoticesMax = 8;

constexpr char kMend[] =
    "give both sides --tls-dir or --tls-psk, or both --insecure if the network is trusted";

}  // namespace

TcpDestinationTransport::TcpDestinationTransport(TcpOptions options, TcpLoops loops)
    : options_(std::move(options)), loops_(loops), notices_left_(kNoticesMax) {}

TcpDestinationTransport::~TcpDestinationTransport() = default;

WireCounter TcpDestinationTransport::Counter(std::atomic<uint64_t> WireCounters::*kind) const {
  return {counters_, &(counters_.get()->*kind)};
}

absl::Status TcpDestinationTransport::Listen(Arrived arrived) {
  FAULTLINE_CHECK(loops_.control->IsOwnThread() && !listener_.valid());
  ASSIGN_OR_RETURN(listener_, ListenTcp(options_.uri));
  arrived_ = std::move(arrived);
  listener_watcher_ = loops_.control->Watch(listener_.get(), [this](FdReadiness) { AcceptSome(); });
  listener_watcher_->SetInterest(true, false);
  return absl::OkStatus();
}

std::string TcpDestinationTransport::address() const {
  if (!listener_.valid()) return options_.uri.text();
  return "tcp://" + LocalAddressOf(listener_.get()).text();
}

SocketAddress TcpDestinationTransport::listening_address() const {
  FAULTLINE_CHECK(listener_.valid());
  return LocalAddressOf(listener_.get());
}

void TcpDestinationTransport::AcceptSome() {
  for (int i = 0; i < kAcceptsPerTurnMax; ++i) {
    FileDescriptor fd(accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (fd.valid()) {
      Greet(std::move(fd));
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
      return PauseAccepting();
    } else if (errno != ECONNABORTED && errno != EINTR) {
      return;
    }
  }
}

// Out of descriptors: the connection stays in the backlog, and the loop must not spin on it.
void TcpDestinationTransport::PauseAccepting() {
  if (!strangers_.empty()) MakeRoom();
  listener_watcher_->SetInterest(false, false);
  accept_pause_ = loops_.control->RunAfter(kAcceptPauseUs,
                                           [this] { listener_watcher_->SetInterest(true, false); });
}

void TcpDestinationTransport::MakeRoom() {
  std::vector<std::string> peers;
  for (const TcpGreeting& stranger : strangers_) peers.push_back(stranger.peer_name());
  strangers_.erase(std::next(strangers_.begin(), static_cast<ptrdiff_t>(WhoHasToGo(peers))));
}

void TcpDestinationTransport::Greet(FileDescriptor fd) {
  TcpConnection connection{std::move(fd), nullptr};
  if (options_.tls != nullptr) {
    const int socket = connection.fd.get();
    connection.tls = options_.tls->NewSession(socket, PeerAddressOf(socket).text());
    if (connection.tls == nullptr) return;  // no memory: it may try again
  }
  if (strangers_.size() >= options_.strangers_max) MakeRoom();
  strangers_.emplace_back(loops_.control, std::move(connection), Counter(&WireCounters::control));
  auto stranger = std::prev(strangers_.end());
  stranger->Receive(options_.hello_timeout_us,
                    [this, stranger](const absl::StatusOr<Message>& message) {
                      OnGreeted(stranger, message);
                      strangers_.erase(stranger);
                    });
}

void TcpDestinationTransport::OnGreeted(Strangers::iterator stranger,
                                        const absl::StatusOr<Message>& message) {
  if (stranger->misfit() != TcpGreeting::Misfit::kNone) {
    return TurnAway(*stranger, message.status());
  }
  if (message.ok() && std::holds_alternative<Hello>(*message)) {
    OnHello(stranger, std::get<Hello>(*message));
  }
}

void TcpDestinationTransport::TurnAway(TcpGreeting& greeting, const absl::Status& status) {
  const std::string peer = greeting.peer_name();
  if (greeting.misfit() == TcpGreeting::Misfit::kRefused) {
    Notice(MessageOf(status));
    return greeting.CloseGently();  // so that the alert with the reason arrives
  }
  // An answer in plain words: a source that wants TLS tells its user that there is none here.
  const bool plain = greeting.misfit() == TcpGreeting::Misfit::kPeerIsPlain;
  Notice(plain
             ? fmt::format("{} came without TLS and was turned away: {}", peer, kMend)
             : fmt::format("{} wants TLS, which this side does not speak, and was turned away: {}",
                           peer, kMend));
  TcpGreeting answer(loops_.control, {greeting.Release().fd, nullptr},
                     Counter(&WireCounters::control));
  answer.Send(PeerError{
      PeerErrorCode::kToken,
      fmt::format("this destination speaks {}: {}", plain ? "TLS only" : "without TLS", kMend)});
  answer.CloseGently();
}

void TcpDestinationTransport::Notice(const std::string& text) {
  if (!options_.on_notice || notices_left_ == 0) return;
  --notices_left_;
  options_.on_notice(text);
  if (notices_left_ > 0) return;
  options_.on_notice("further connections that are turned away stay unsaid");
}

void TcpDestinationTransport::OnHello(Strangers::iterator stranger, const Hello& hello) {
  if (auto refusal = Refuse(hello)) {
    stranger->Send(*refusal);
    return stranger->CloseGently();
  }
  if (hello.role == ConnectionRole::kDemand || hello.role == ConnectionRole::kBulk) {
    return JoinLane(*stranger, hello.role);
  }
  TcpConnection connection = stranger->Release();
  if (!TuneTcp(connection.fd.get(), TcpUse::kControl).ok()) return;  // it is gone already
  arrived_(hello, std::make_unique<TcpControlChannel>(loops_.control, std::move(connection),
                                                      Counter(&WireCounters::control)));
}

std::optional<PeerError> TcpDestinationTransport::Refuse(const Hello& hello) const {
  if (auto refusal = RefuseVersion(hello)) return refusal;
  const bool is_demand = hello.role == ConnectionRole::kDemand;
  if (!is_demand && hello.role != ConnectionRole::kBulk) return std::nullopt;
  if (!expected_.has_value() || hello.migration_id != expected_->terms.id ||
      !SameToken(hello.token, expected_->terms.token)) {
    return PeerError{PeerErrorCode::kToken,
                     "this connection belongs to no migration that is under way here"};
  }
  if (hello.lane_index != 0) {
    return PeerError{PeerErrorCode::kBadMessage,
                     fmt::format("bad Hello message: field 'lane_index' is {}, there is one lane "
                                 "of each kind",
                                 hello.lane_index)};
  }
  if (!expected_->done || (is_demand ? reader_ != nullptr : push_ != nullptr)) {
    return PeerError{PeerErrorCode::kToken, "this migration has its lanes already"};
  }
  return std::nullopt;
}

void TcpDestinationTransport::JoinLane(TcpGreeting& greeting, ConnectionRole role) {
  greeting.Send(Welcome{kProtocolVersionMax, LaneToken(role)});
  TcpConnection connection = greeting.Release();
  bool is_demand = role == ConnectionRole::kDemand;
  TcpUse use = is_demand ? TcpUse::kDemand : TcpUse::kBulk;
  // A lane that is gone again already does not count: the source tries once more or gives up.
  if (!connection.fd.valid() || !TuneTcp(connection.fd.get(), use).ok()) return;
  if (is_demand) {
    reader_ = MakeReader(std::move(connection));
  } else {
    push_ = MakeReceiver(std::move(connection));
  }
  if (reader_ != nullptr && push_ != nullptr) FinishLanes(Lanes{reader_.get(), push_.get()});
}

std::unique_ptr<PageReader> TcpDestinationTransport::MakeReader(TcpConnection connection) {
  return std::make_unique<TcpPageReader>(loops_.demand, std::move(connection),
                                         Counter(&WireCounters::demand), terms());
}

std::unique_ptr<PushReceiver> TcpDestinationTransport::MakeReceiver(TcpConnection connection) {
  return std::make_unique<TcpPushReceiver>(loops_.bulk, std::move(connection),
                                           Counter(&WireCounters::bulk), terms());
}

void TcpDestinationTransport::ExpectLanes(const LaneTerms& terms, int64_t timeout_us,
                                          LanesOpen done) {
  FAULTLINE_CHECK(loops_.control->IsOwnThread());
  reader_.reset();
  push_.reset();
  expected_.emplace(Expected{});
  expected_->terms = terms;
  expected_->done = std::move(done);
  expected_->timeout = loops_.control->RunAfter(timeout_us, [this, timeout_us] {
    const char* missing = reader_ != nullptr ? "bulk lane"
                          : push_ != nullptr ? "demand lane"
                                             : "lanes";
    FinishLanes(absl::DeadlineExceededError(fmt::format(
        "waiting on {}: the source's {} did not come within {:.1f} s; does a firewall limit the "
        "number of connections to this port?",
        address(), missing, static_cast<double>(timeout_us) / 1e6)));
  });
}

void TcpDestinationTransport::FinishLanes(absl::StatusOr<Lanes> lanes) {
  if (!lanes.ok()) {
    // Never given out, so no other thread knows them.
    reader_.reset();
    push_.reset();
  }
  expected_->timeout.reset();
  LanesOpen done = std::exchange(expected_->done, nullptr);
  done(std::move(lanes));
}

}  // namespace faultline
