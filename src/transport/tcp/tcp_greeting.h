// The TLS handshake and the first message of a connection: read exactly, so that what follows it
// waits for the lane or channel that takes the connection over.
#ifndef FAULTLINE_TRANSPORT_TCP_TCP_GREETING_H_
#define FAULTLINE_TRANSPORT_TCP_TCP_GREETING_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
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
  // InvalidArgument (no such message), and what TlsSession::Handshake says.
  using Done = std::function<void(absl::StatusOr<Message>)>;

  TcpGreeting(Loop* control, TcpConnection connection, WireCounter counter);

  // A first message fits into the empty buffer of a fresh socket; if it does not go out whole, the
  // connection is broken and Receive will say so.
  void Send(const Message& message);
  // `done` runs once, never from inside this call, and may destroy the greeting. The handshake, if
  // it is not over yet, comes first and is part of the time.
  void Receive(int64_t timeout_us, Done done);
  // Takes the connection, at the first byte after the messages.
  TcpConnection Release() { return stream_.Release(); }
  // Closes so that what was sent arrives.
  void CloseGently() { stream_.CloseGently(); }

  // Why Receive has failed, where the two sides disagree about TLS.
  enum class Misfit : uint8_t {
    kNone,
    kPeerIsPlain,  // it talks Faultline, and this side waits for TLS
    kPeerIsTls,    // it begins TLS, and this side waits for Faultline
    kRefused,      // TLS failed, by what one side's secrets or settings are
  };
  Misfit misfit() const { return misfit_; }
  const std::string& peer_name() const { return stream_.peer_name(); }

 private:
  void OnReady();
  // Reads what is missing of bytes_; false: it is not whole yet, or the connection failed.
  bool Fill();
  void Fail(const absl::Status& status);
  void Finish(absl::StatusOr<Message> message);

  Loop* const loop_;
  TcpStream stream_;
  std::vector<std::byte> bytes_;  // as long as is known to be needed
  size_t received_ = 0;
  Misfit misfit_ = Misfit::kNone;
  Done done_;
  std::unique_ptr<Timer> timer_;
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_TCP_TCP_GREETING_H_
