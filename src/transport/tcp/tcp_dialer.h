// Connecting to a URI: name, addresses, time-out, and a sentence when it fails.
#ifndef FAULTLINE_TRANSPORT_TCP_TCP_DIALER_H_
#define FAULTLINE_TRANSPORT_TCP_TCP_DIALER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/file_descriptor.h"
#include "base/status.h"
#include "runtime/loop.h"
#include "transport/tcp/tcp_socket.h"
#include "transport/tcp/tcp_uri.h"

namespace faultline {

// One attempt. Control thread. Destroying it gives the attempt up; `done` will then not run.
class TcpDialer {
 public:
  // A connected, non-blocking socket, or: NotFound (no such host), Unavailable (refused,
  // unreachable), DeadlineExceeded; each names the address and the mend.
  using Done = std::function<void(absl::StatusOr<FileDescriptor>)>;

  // `done` runs once, never from inside the constructor, and may destroy the dialer.
  TcpDialer(Loop* control, TcpUri uri, int64_t timeout_us, Done done);
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
  void Finish(absl::StatusOr<FileDescriptor> result);

  Loop* const loop_;
  const TcpUri uri_;
  const int64_t deadline_ns_;
  const double timeout_s_;
  Done done_;
  std::shared_ptr<Lookup> lookup_;
  std::vector<SocketAddress> addresses_;
  size_t next_address_ = 0;
  absl::Status last_error_;
  FileDescriptor socket_;
  std::unique_ptr<FdWatcher> watcher_;
  std::unique_ptr<Timer> timer_;
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_TCP_TCP_DIALER_H_
