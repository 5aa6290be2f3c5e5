#include "micro/sockets.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/socket.h>

#include <cerrno>
#include <charconv>
#include <utility>

namespace faultline::bench::micro {
namespace {

absl::StatusOr<sockaddr_in> Parse(const std::string& text) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  const size_t colon = text.rfind(':');
  uint16_t port = 0;
  if (colon == std::string::npos ||
      inet_pton(AF_INET, text.substr(0, colon).c_str(), &address.sin_addr) != 1 ||
      std::from_chars(text.data() + colon + 1, text.data() + text.size(), port).ec != std::errc()) {
    return absl::InvalidArgumentError("'" + text + "' is no address; give A.B.C.D:PORT");
  }
  address.sin_port = htons(port);
  return address;
}

absl::StatusOr<FileDescriptor> NewSocket() {
  FileDescriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return ErrnoStatus(errno, "make a TCP socket");
  return socket;
}

absl::Status SetNoDelay(const FileDescriptor& socket) {
  const int on = 1;
  if (setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0) {
    return ErrnoStatus(errno, "set TCP_NODELAY");
  }
  return absl::OkStatus();
}

}  // namespace

void PauseWhilePolling() { sched_yield(); }

absl::StatusOr<FileDescriptor> Listen(const std::string& wanted, std::string* address) {
  ASSIGN_OR_RETURN(sockaddr_in in, Parse(wanted));
  ASSIGN_OR_RETURN(FileDescriptor socket, NewSocket());
  auto* generic = reinterpret_cast<sockaddr*>(&in);
  socklen_t length = sizeof in;
  if (bind(socket.get(), generic, length) < 0 || listen(socket.get(), 1) < 0 ||
      getsockname(socket.get(), generic, &length) < 0) {
    return ErrnoStatus(errno, "listen on " + wanted);
  }
  *address = wanted.substr(0, wanted.rfind(':') + 1) + std::to_string(ntohs(in.sin_port));
  return socket;
}

absl::StatusOr<FileDescriptor> Accept(const FileDescriptor& listener) {
  FileDescriptor socket(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!socket.valid()) return ErrnoStatus(errno, "accept the source");
  RETURN_IF_ERROR(SetNoDelay(socket));
  return socket;
}

absl::StatusOr<FileDescriptor> Connect(const std::string& address) {
  ASSIGN_OR_RETURN(const sockaddr_in in, Parse(address));
  ASSIGN_OR_RETURN(FileDescriptor socket, NewSocket());
  if (connect(socket.get(), reinterpret_cast<const sockaddr*>(&in), sizeof in) < 0) {
    return ErrnoStatus(errno, "connect to " + address);
  }
  RETURN_IF_ERROR(SetNoDelay(socket));
  return socket;
}

absl::Status SendAll(const FileDescriptor& socket, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0) return ErrnoStatus(errno, "send to the peer");
    bytes = bytes.subspan(static_cast<size_t>(sent));
  }
  return absl::OkStatus();
}

absl::Status ReceiveAll(const FileDescriptor& socket, std::span<std::byte> bytes, Waiting waiting) {
  const size_t wanted = bytes.size();
  const int flags = waiting == Waiting::kPolling ? MSG_DONTWAIT : MSG_WAITALL;
  while (!bytes.empty()) {
    const ssize_t received = recv(socket.get(), bytes.data(), bytes.size(), flags);
    if (received < 0 && errno == EAGAIN) {
      PauseWhilePolling();
      continue;
    }
    if (received < 0) return ErrnoStatus(errno, "receive from the peer");
    if (received == 0) {
      return bytes.size() == wanted ? absl::OutOfRangeError("the peer ended")
                                    : absl::UnavailableError("the peer ended within a message");
    }
    bytes = bytes.subspan(static_cast<size_t>(received));
  }
  return absl::OkStatus();
}

}  // namespace faultline::bench::micro
