#include "transport/tcp/tcp_stream.h"

#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
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

// Of tcpi_min_rtt in the kernel's tcp_info (linux/tcp.h); the C library's ends before it.
constexpr size_t kMinRoundTripOffset = 148;

}  // namespace

TcpStream::TcpStream(FileDescriptor fd, WireCounter counter)
    : fd_(std::move(fd)),
      counter_(std::move(counter)),
      peer_name_(PeerAddressOf(fd_.get()).text()) {}

void TcpStream::Watch(Loop* loop, Loop::ReadyTask on_ready) {
  FAULTLINE_CHECK(fd_.valid() && watcher_ == nullptr);
  watcher_ = loop->Watch(fd_.get(), std::move(on_ready));
}

void TcpStream::SetInterest(bool readable, bool writable) {
  if (watcher_ != nullptr) watcher_->SetInterest(readable, writable);
}

Transfer TcpStream::Send(std::span<iovec> parts) {
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
  int unacked = 0;
  if (ioctl(fd_.get(), SIOCOUTQ, &unacked) == 0) {
    flight.unacked_bytes = static_cast<uint64_t>(unacked);
  }
  std::array<std::byte, kMinRoundTripOffset + sizeof(uint32_t)> info{};
  socklen_t length = info.size();
  if (getsockopt(fd_.get(), IPPROTO_TCP, TCP_INFO, info.data(), &length) == 0) {
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
  if (!limit.ok() || std::strtoll(limit->c_str(), nullptr, 10) < half) return;
  setsockopt(fd_.get(), SOL_SOCKET, SO_SNDBUF, &half, sizeof(half));
}

void TcpStream::SetReceiveMark(size_t bytes) {
  int mark = static_cast<int>(bytes);
  setsockopt(fd_.get(), SOL_SOCKET, SO_RCVLOWAT, &mark, sizeof(mark));
}

Transfer TcpStream::Receive(std::span<iovec> parts) {
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

void TcpStream::Close() {
  watcher_.reset();
  fd_.Reset();
}

void TcpStream::CloseGently() {
  constexpr int kReadsMax = 64;
  if (!fd_.valid()) return;
  watcher_.reset();
  shutdown(fd_.get(), SHUT_WR);
  std::array<std::byte, 16384> ignored;
  for (int i = 0; i < kReadsMax; ++i) {
    if (recv(fd_.get(), ignored.data(), ignored.size(), MSG_DONTWAIT) <= 0) break;
  }
  fd_.Reset();
}

FileDescriptor TcpStream::Release() {
  watcher_.reset();
  return std::move(fd_);
}

}  // namespace faultline
