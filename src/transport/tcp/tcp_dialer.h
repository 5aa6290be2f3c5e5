// Connecting to a URI: name, addresses, TLS handshake, time-out, and a sentence when it fails.
#ifndef FAULTLINE_TRANSPORT_TCP_TCP_DIALER_H_
#define FAULTLINE_TRANSPORT_TCP_TCP_DIALER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/file_descriptor.h"
#include "base/status.h"
#include "runtime/loop.h"
#include "transport/tcp/tcp_socket.h"
#include "transport/tcp/tcp_stream.h"
#include "transport/tcp/tcp_uri.h"
#include "transport/tcp/tls_context.h"

namespace faultline {

// One attempt. Control thread. Destroying it gives the attempt up; `done` will then not run.
class TcpDialer {
 public:
  struct Target {
    TcpUri uri;
    std::shared_ptr<const TlsContext> tls;  // null: a plain connection
    WireCounter counter;                    // counts what the handshake takes
  };
  // A connection that is ready for its first message, or: NotFound (no such host), Unavailable
  // (refused, unreachable), DeadlineExceeded, or what TlsSession::Handshake says; each names the
  // address and the mend.
  using Done = std::function<void(absl::StatusOr<TcpConnection>)>;

  // `done` runs once, never from inside the constructor, and may destroy the dialer.
  TcpDialer(Loop* control, Target target, int64_t timeout_us, Done done);
  ~TcpDialer();

 private:
  // Shared with the thread that looks a name up, which may take longer than the dialer lives.
  struct Lookup;

  void StartLookup();
  void OnResolved(absl::StatusOr<std::vector<SocketAddress>> addresses);
  // Tries the next address, or fails with `last_error_`.
  void TryNext();
  absl::Status BeginConnect(const SocketAddress& address);
  void OnWritable();
  // All addresses lead to the same host: who fails here is not tried at another one.
  void BeginHandshake();
  void OnHandshakeReady();
  void Finish(absl::StatusOr<TcpConnection> result);

  Loop* const loop_;
  const TcpUri uri_;
  const std::shared_ptr<const TlsContext> tls_;
  const WireCounter counter_;
  const int64_t deadline_ns_;
  const double timeout_s_;
  Done done_;
  std::shared_ptr<Lookup> lookup_;
  std::vector<SocketAddress> addresses_;
  size_t next_address_ = 0;
  absl::Status last_error_;
  FileDescriptor socket_;
  std::unique_ptr<FdWatcher> watcher_;
  std::optional<TcpStream> stream_;  // during the handshake, in socket_'s place
  std::unique_ptr<Timer> timer_;
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_TCP_TCP_DIALER_H_
