// The first message of a connection: read exactly, so that what follows it stays in the socket for
// the lane or channel that takes the socket over.
#ifndef FAULTLINE_TRANSPORT_TCP_TCP_GREETING_H_
#define FAULTLINE_TRANSPORT_TCP_TCP_GREETING_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/status.h"
#include "protocol/messages.h"
#include "runtime/loop.h"
#include "transport/tcp/tcp_stream.h"

namespace faultline {

// Control thread.
class TcpGreeting {
 public:
  // The message (Hello, Welcome or PeerError), or: DeadlineExceeded, Unavailable (closed),
  // InvalidArgument (no such message).
  using Done = std::function<void(absl::StatusOr<Message>)>;

  TcpGreeting(Loop* control, FileDescriptor fd, WireCounter counter);

  // A first message fits into the empty buffer of a fresh socket; if it does not go out whole, the
  // connection is broken and Receive will say so.
  void Send(const Message& message);
  // `done` runs once, never from inside this call, and may destroy the greeting.
  void Receive(int64_t timeout_us, Done done);
  // Takes the socket, at the first byte after the messages.
  FileDescriptor Release() { return stream_.Release(); }
  // Closes so that what was sent arrives.
  void CloseGently() { stream_.CloseGently(); }

 private:
  void OnReadable();
  void Finish(absl::StatusOr<Message> message);

  Loop* const loop_;
  TcpStream stream_;
  std::vector<std::byte> bytes_;  // as long as is known to be needed
  size_t received_ = 0;
  Done done_;
  std::unique_ptr<Timer> timer_;
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_TCP_TCP_GREETING_H_
