#include "transport/tcp/tcp_stream.h"

#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <utility>

#include "base/check.h"
#include "base/text.h"
#include "transport/tcp/tcp_socket.h"

namespace faultline {
namespace {

// Of tcpi_bytes_acked and tcpi_min_rtt in the kernel's tcp_info (linux/tcp.h); the C library's ends
// before them.
constexpr size_t kAckedBytesOffset = 120;
constexpr size_t kMinRoundTripOffset = 148;

}  // namespace

TcpStream::TcpStream(TcpConnection connection, WireCounter counter)
    : fd_(std::move(connection.fd)),
      tls_(std::move(connection.tls)),
      counter_(std::move(counter)),
      peer_name_(PeerAddressOf(fd_.get()).text()) {}

void TcpStream::Watch(Loop* loop, Loop::ReadyTask on_ready) {
  FAULTLINE_CHECK(fd_.valid() && watcher_ == nullptr);
  loop_ = loop;
  on_ready_ = std::make_shared<Loop::ReadyTask>(std::move(on_ready));
  watcher_ = loop->Watch(fd_.get(), [this](FdReadiness socket) { OnSocketReady(socket); });
}

void TcpStream::SetInterest(bool readable, bool writable) {
  readable_wanted_ = readable;
  writable_wanted_ = writable;
  Arm();
}

absl::StatusOr<bool> TcpStream::Handshake() {
  if (tls_ == nullptr || tls_->established()) return true;
  absl::StatusOr<TlsNeed> need = tls_->Handshake();
  CountTlsBytes();
  if (!need.ok()) return need.status();
  if (*need != TlsNeed::kNothing) {
    watcher_->SetInterest(*need == TlsNeed::kReadable, *need == TlsNeed::kWritable);
    return false;
  }
  Arm();
  return true;
}

void TcpStream::OnSocketReady(FdReadiness socket) {
  if (tls_ == nullptr || !tls_->established()) {
    Tell(socket);
    return;
  }
  auto met = [socket](TlsNeed need) {
    return need == TlsNeed::kWritable ? socket.writable : socket.readable;
  };
  const FdReadiness ready{readable_wanted_ && met(tls_->receive_need()),
                          writable_wanted_ && met(tls_->send_need())};
  if ((ready.readable || ready.writable) && Tell(ready)) Arm();
}

bool TcpStream::Tell(FdReadiness ready) {
  const std::shared_ptr<Loop::ReadyTask> on_ready = on_ready_;
  (*on_ready)(ready);
  return on_ready.use_count() > 1;
}

// What the user waits for, as what the socket has to be ready for.
void TcpStream::Arm() {
  if (watcher_ == nullptr) return;
  if (tls_ == nullptr || !tls_->established()) {
    return watcher_->SetInterest(readable_wanted_, writable_wanted_);
  }
  auto wanted = [this](TlsNeed need) {
    return (readable_wanted_ && tls_->receive_need() == need) ||
           (writable_wanted_ && tls_->send_need() == need);
  };
  watcher_->SetInterest(wanted(TlsNeed::kReadable), wanted(TlsNeed::kWritable));
  OfferHeldBytes();
}

// A socket that is empty wakes nobody, though TLS may have taken more off it than was asked for.
void TcpStream::OfferHeldBytes() {
  if (offering_ || !readable_wanted_ || !tls_->may_hold_bytes()) return;
  offering_ = true;
  loop_->Post([this, watched = std::weak_ptr(on_ready_)] {
    if (watched.expired()) return;  // closed, given away or destroyed meanwhile
    offering_ = false;
    if (!readable_wanted_ || !tls_->may_hold_bytes()) return;
    if (Tell({.readable = true, .writable = false})) Arm();
  });
}

void TcpStream::CountTlsBytes() {
  counter_->fetch_add(tls_->TakeWireBytes(), std::memory_order_relaxed);
}

Transfer TcpStream::Send(std::span<iovec> parts) {
  if (tls_ != nullptr) {
    Transfer transfer = tls_->Send(parts);
    CountTlsBytes();
    return transfer;
  }
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  ssize_t sent;
  do {
    sent = sendmsg(fd_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) {
    if (errno == EAGAIN) return {};
    return {0, ErrnoStatus(errno, "sending to " + peer_name_)};
  }
  counter_->fetch_add(static_cast<uint64_t>(sent), std::memory_order_relaxed);
  return {static_cast<size_t>(sent), absl::OkStatus()};
}

TcpStream::Flight TcpStream::flight() const {
  Flight flight;
  std::array<std::byte, kMinRoundTripOffset + sizeof(uint32_t)> info{};
  socklen_t length = info.size();
  if (getsockopt(fd_.get(), IPPROTO_TCP, TCP_INFO, info.data(), &length) == 0) {
    std::memcpy(&flight.acked_bytes, info.data() + kAckedBytesOffset, sizeof(flight.acked_bytes));
    uint32_t microseconds = 0;
    std::memcpy(&microseconds, info.data() + kMinRoundTripOffset, sizeof(microseconds));
    flight.min_round_trip_ns = int64_t{microseconds} * 1000;
  }
  return flight;
}

void TcpStream::SetSendBuffer(uint64_t bytes) {
  // The kernel doubles what it is given.
  int half = static_cast<int>(std::min<uint64_t>(bytes / 2, std::numeric_limits<int>::max() / 2));
  if (setsockopt(fd_.get(), SOL_SOCKET, SO_SNDBUFFORCE, &half, sizeof(half)) == 0) return;
  absl::StatusOr<std::string> limit = ReadTextFile("/proc/sys/net/core/wmem_max");
  const bool allowed = limit.ok() && std::strtoll(limit->c_str(), nullptr, 10) >= half;
  if (!allowed && !send_buffer_set_) return;
  send_buffer_set_ = true;
  setsockopt(fd_.get(), SOL_SOCKET, SO_SNDBUF, &half, sizeof(half));
}

void TcpStream::SetReceiveMark(size_t bytes) {
  // A part of what is waited for may have left the socket already.
  if (tls_ != nullptr) {
    bytes = bytes > TlsSession::kHeldBytesMax ? bytes - TlsSession::kHeldBytesMax : 1;
  }
  int mark = static_cast<int>(bytes);
  setsockopt(fd_.get(), SOL_SOCKET, SO_RCVLOWAT, &mark, sizeof(mark));
}

Transfer TcpStream::Receive(std::span<iovec> parts) {
  if (tls_ != nullptr) {
    Transfer transfer = tls_->Receive(parts);
    CountTlsBytes();
    return transfer;
  }
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  ssize_t received;
  do {
    received = recvmsg(fd_.get(), &message, MSG_DONTWAIT);
  } while (received < 0 && errno == EINTR);
  if (received < 0) {
    if (errno == EAGAIN) return {};
    return {0, ErrnoStatus(errno, "receiving from " + peer_name_)};
  }
  if (received == 0) {
    return {0, absl::UnavailableError("the peer " + peer_name_ + " closed the connection")};
  }
  counter_->fetch_add(static_cast<uint64_t>(received), std::memory_order_relaxed);
  return {static_cast<size_t>(received), absl::OkStatus()};
}

void TcpStream::StopWatching() {
  watcher_.reset();
  on_ready_.reset();
  offering_ = false;
}

void TcpStream::Close() {
  StopWatching();
  tls_.reset();
  fd_.Reset();
}

void TcpStream::CloseGently() {
  constexpr int kReadsMax = 64;
  if (!fd_.valid()) return;
  StopWatching();
  if (tls_ != nullptr) tls_->EndSending();
  shutdown(fd_.get(), SHUT_WR);
  std::array<std::byte, 16384> ignored;
  for (int i = 0; i < kReadsMax; ++i) {
    if (recv(fd_.get(), ignored.data(), ignored.size(), MSG_DONTWAIT) <= 0) break;
  }
  Close();
}

TcpConnection TcpStream::Release() {
  StopWatching();
  return {std::move(fd_), std::move(tls_)};
}

}  // namespace faultline
