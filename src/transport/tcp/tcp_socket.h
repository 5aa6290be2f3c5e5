// Addresses and sockets: the system calls around a TCP connection.
#ifndef FAULTLINE_TRANSPORT_TCP_TCP_SOCKET_H_
#define FAULTLINE_TRANSPORT_TCP_TCP_SOCKET_H_

#include <netinet/in.h>
#include <sys/socket.h>

#include <string>
#include <vector>

#include "base/file_descriptor.h"
#include "base/status.h"
#include "transport/tcp/tcp_uri.h"

namespace faultline {

// An IPv4 or IPv6 address with its port.
struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  // "192.0.2.7:4444", "[2001:db8::7]:4444".
  std::string text() const;
};

// The addresses of `uri`. `numeric_only`: never asks the network (NotFound if that would be
// needed); otherwise it may block for as long as the system's resolver does.
absl::StatusOr<std::vector<SocketAddress>> ResolveTcp(const TcpUri& uri, bool numeric_only);

// What a connection is tuned for.
enum class TcpUse : uint8_t {
  // Small messages that must not wait, and a peer that always reads: TCP_USER_TIMEOUT ends the
  // connection when the peer's host is gone.
  kControl,
  kDemand,
  // Little queued ahead: TCP_NOTSENT_LOWAT bounds what the kernel holds beyond what is on the wire.
  // No TCP_USER_TIMEOUT: a receiver may hold a run for hours (no room for the VM's memory), and a
  // window that stays shut would count as a dead peer. Control notices a dead one.
  kBulk,
};

// Keepalive, TCP_NODELAY and what `use` asks for.
absl::Status TuneTcp(int fd, TcpUse use);

// A non-blocking listening socket. AlreadyExists if the port is taken.
absl::StatusOr<FileDescriptor> ListenTcp(const TcpUri& uri);

// The address that `fd` is bound to, and the one it is connected to.
SocketAddress LocalAddressOf(int fd);
SocketAddress PeerAddressOf(int fd);

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_TCP_TCP_SOCKET_H_
