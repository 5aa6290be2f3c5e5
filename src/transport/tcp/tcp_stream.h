// A connected, non-blocking socket watched by one loop, with its bytes counted; plain or in TLS.
#ifndef FAULTLINE_TRANSPORT_TCP_TCP_STREAM_H_
#define FAULTLINE_TRANSPORT_TCP_TCP_STREAM_H_

#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/file_descriptor.h"
#include "base/status.h"
#include "runtime/loop.h"
#include "transport/tcp/tcp_transfer.h"
#include "transport/tcp/tls_session.h"

namespace faultline {

// Bytes sent and received, each connection's kind apart so that the threads do not share a cache
// line. Any thread reads.
struct WireCounters {
  alignas(64) std::atomic<uint64_t> control{0};
  alignas(64) std::atomic<uint64_t> demand{0};
  alignas(64) std::atomic<uint64_t> bulk{0};

  uint64_t total() const {
    return control.load(std::memory_order_relaxed) + demand.load(std::memory_order_relaxed) +
           bulk.load(std::memory_order_relaxed);
  }
};
using WireCounter = std::shared_ptr<std::atomic<uint64_t>>;

// What is handed from whoever opened a connection to whoever uses it.
struct TcpConnection {
  FileDescriptor fd;
  std::unique_ptr<TlsSession> tls;  // null: plain; goes before fd
};

// Made on any thread; used on the thread of the loop that watches it.
class TcpStream {
 public:
  TcpStream(TcpConnection connection, WireCounter counter);

  // Begins to watch, with no interest yet. `on_ready` may destroy the stream.
  void Watch(Loop* loop, Loop::ReadyTask on_ready);
  // Readable and writable as Receive and Send mean it: what TLS holds back or has to say first is
  // seen to here.
  void SetInterest(bool readable, bool writable);

  // Goes on with the TLS handshake; true: there is none, or it is over. Call it from `on_ready`
  // until then, before anything else; the interest is set here meanwhile. Errors: TlsSession's.
  absl::StatusOr<bool> Handshake();
  // Handshake has failed because the peer talks Faultline without TLS.
  bool peer_is_plain() const { return tls_ != nullptr && tls_->peer_is_plain(); }

  // As much of `parts` as the socket takes or has. Never raises SIGPIPE. The peer's orderly end is
  // Unavailable. Nothing is allocated for a page unless it fails. What Send does not take must be
  // offered again, the same and first: with TLS it may be in a record already.
  Transfer Send(std::span<iovec> parts);
  Transfer Receive(std::span<iovec> parts);

  // What the peer has acknowledged since the connection began, in bytes on the wire, and the
  // shortest round trip seen.
  struct Flight {
    uint64_t acked_bytes = 0;
    int64_t min_round_trip_ns = 0;
  };
  Flight flight() const;
  // Bounds what the socket takes before the peer has acknowledged it. Without CAP_NET_ADMIN nothing
  // is done beyond net.core.wmem_max: it would only take the kernel's own, larger choice away. Once
  // that is gone, the socket gets as much as is allowed.
  void SetSendBuffer(uint64_t bytes);

  // The stream counts as readable once so many bytes have come, or its peer has ended.
  void SetReceiveMark(size_t bytes);

  bool open() const { return fd_.valid(); }
  void Close();
  // Tells the peer that nothing follows, and takes what it has sent off the socket, so that the
  // kernel does not answer with a reset that would destroy what is still on its way to the peer.
  void CloseGently();
  // Ends the watch and gives the connection away.
  TcpConnection Release();
  const std::string& peer_name() const { return peer_name_; }

 private:
  void OnSocketReady(FdReadiness socket);
  // Calls the user; false: the stream is closed or gone.
  bool Tell(FdReadiness ready);
  void Arm();
  void OfferHeldBytes();
  void CountTlsBytes();
  void StopWatching();

  FileDescriptor fd_;
  std::unique_ptr<TlsSession> tls_;  // null: plain; goes before fd_
  WireCounter counter_;
  std::string peer_name_;
  Loop* loop_ = nullptr;
  std::shared_ptr<Loop::ReadyTask> on_ready_;  // shared by calls under way
  bool readable_wanted_ = false;
  bool writable_wanted_ = false;
  bool send_buffer_set_ = false;        // within net.core.wmem_max
  bool offering_ = false;               // a task that tells of held bytes is on its way
  std::unique_ptr<FdWatcher> watcher_;  // goes before fd_
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_TCP_TCP_STREAM_H_
