#include "transport/tcp/tcp_dialer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <thread>
#include <utility>

#include "base/check.h"

namespace faultline {
namespace {

absl::Status ConnectError(int error_number, const TcpUri& uri, const SocketAddress& address) {
  std::string what = "connecting to " + address.text();
  if (address.text() != uri.host_port()) what += " (" + uri.host + ")";
  absl::Status status = ErrnoStatus(error_number, what);
  switch (error_number) {
    case ECONNREFUSED:
      return absl::UnavailableError(MessageOf(status) +
                                    "; is `faultline receive --listen` running there?");
    case EHOSTUNREACH:
    case ENETUNREACH:
      return absl::UnavailableError(MessageOf(status) +
                                    "; check the address and the route to it (`ip route get`)");
    default:
      return status;
  }
}

}  // namespace

struct TcpDialer::Lookup {
  std::mutex mutex;
  TcpDialer* dialer = nullptr;  // guarded by mutex; null once the dialer has gone
};

TcpDialer::TcpDialer(Loop* control, Target target, int64_t timeout_us, Done done)
    : loop_(control),
      uri_(std::move(target.uri)),
      tls_(std::move(target.tls)),
      counter_(std::move(target.counter)),
      deadline_ns_(control->NowNanos() + timeout_us * 1000),
      timeout_s_(static_cast<double>(timeout_us) / 1e6),
      done_(std::move(done)),
      lookup_(std::make_shared<Lookup>()) {
  FAULTLINE_CHECK(loop_->IsOwnThread());
  lookup_->dialer = this;
  last_error_ = absl::DeadlineExceededError(
      fmt::format("looking up host '{}' of {}: no answer within {:.1f} s; give the address itself",
                  uri_.host, uri_.text(), timeout_s_));
  timer_ = loop_->RunAfter(0, [this] { StartLookup(); });
}

TcpDialer::~TcpDialer() {
  std::lock_guard lock(lookup_->mutex);
  lookup_->dialer = nullptr;
}

void TcpDialer::StartLookup() {
  auto numeric = ResolveTcp(uri_, /*numeric_only=*/true);
  if (numeric.ok()) return OnResolved(std::move(numeric));
  timer_ =
      loop_->RunAfter((deadline_ns_ - loop_->NowNanos()) / 1000, [this] { Finish(last_error_); });
  // The system's resolver blocks, at times for longer than anybody wants to wait for it at exit:
  // its thread is let go, and finds the dialer again only if that is still there.
  std::thread([lookup = lookup_, uri = uri_] {
    auto addresses = ResolveTcp(uri, /*numeric_only=*/false);
    std::lock_guard lock(lookup->mutex);
    if (lookup->dialer == nullptr) return;
    lookup->dialer->loop_->Post([lookup, addresses = std::move(addresses)] {
      // On the control thread, where the dialer is destroyed too: no lock is needed to use it.
      if (lookup->dialer != nullptr) lookup->dialer->OnResolved(addresses);
    });
  }).detach();
}

void TcpDialer::OnResolved(absl::StatusOr<std::vector<SocketAddress>> addresses) {
  if (!addresses.ok()) return Finish(addresses.status());
  addresses_ = std::move(addresses).value();
  TryNext();
}

void TcpDialer::TryNext() {
  while (next_address_ < addresses_.size()) {
    const SocketAddress& address = addresses_[next_address_++];
    last_error_ = BeginConnect(address);
    if (!last_error_.ok()) continue;
    last_error_ = absl::DeadlineExceededError(fmt::format(
        "connecting to {}: no answer within {:.1f} s; is the host up, and does a firewall let port "
        "{} through?",
        address.text(), timeout_s_, uri_.port));
    // The time that is left is shared by the addresses that are left.
    int64_t left_us = std::max<int64_t>(0, deadline_ns_ - loop_->NowNanos()) / 1000;
    auto sharers = static_cast<int64_t>(addresses_.size() - next_address_ + 1);
    timer_ = loop_->RunAfter(left_us / sharers, [this] { TryNext(); });
    return;
  }
  watcher_.reset();
  Finish(last_error_);
}

absl::Status TcpDialer::BeginConnect(const SocketAddress& address) {
  watcher_.reset();
  socket_ = FileDescriptor(
      socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket_.valid()) return ErrnoStatus(errno, "making a socket for " + address.text());
  if (connect(socket_.get(), address.get(), address.length) != 0 && errno != EINPROGRESS) {
    return ConnectError(errno, uri_, address);
  }
  watcher_ = loop_->Watch(socket_.get(), [this](FdReadiness) { OnWritable(); });
  watcher_->SetInterest(false, true);
  return absl::OkStatus();
}

void TcpDialer::OnWritable() {
  int error_number = 0;
  socklen_t length = sizeof(error_number);
  getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &error_number, &length);
  watcher_.reset();
  if (error_number != 0) {
    last_error_ = ConnectError(error_number, uri_, addresses_[next_address_ - 1]);
    if (next_address_ < addresses_.size()) return TryNext();
    return Finish(last_error_);
  }
  if (tls_ != nullptr) return BeginHandshake();
  Finish(TcpConnection{std::move(socket_), nullptr});
}

void TcpDialer::BeginHandshake() {
  const std::string peer = PeerAddressOf(socket_.get()).text();
  std::unique_ptr<TlsSession> session = tls_->NewSession(socket_.get(), peer);
  if (session == nullptr) {
    return Finish(absl::ResourceExhaustedError("no memory for TLS with " + peer));
  }
  last_error_ = absl::DeadlineExceededError(fmt::format(
      "TLS with {}: no answer within {:.1f} s; is `faultline receive` what listens there, and does "
      "it take TLS?",
      peer, timeout_s_));
  timer_ =
      loop_->RunAfter((deadline_ns_ - loop_->NowNanos()) / 1000, [this] { Finish(last_error_); });
  stream_.emplace(TcpConnection{std::move(socket_), std::move(session)}, counter_);
  stream_->Watch(loop_, [this](FdReadiness) { OnHandshakeReady(); });
  OnHandshakeReady();
}

void TcpDialer::OnHandshakeReady() {
  absl::StatusOr<bool> over = stream_->Handshake();
  if (over.ok() && !*over) return;
  if (over.ok()) return Finish(stream_->Release());
  stream_->CloseGently();  // so that the alert with the reason arrives
  Finish(Annotate(over.status(), "connecting to " + uri_.text()));
}

void TcpDialer::Finish(absl::StatusOr<TcpConnection> result) {
  timer_.reset();
  Done done = std::exchange(done_, nullptr);
  done(std::move(result));
}

}  // namespace faultline
