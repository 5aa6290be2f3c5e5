// A connected, non-blocking socket watched by one loop, with its bytes counted.
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

// How far a transfer got. Ok and fewer bytes than asked for: the socket takes or has no more now.
struct Transfer {
  size_t bytes = 0;
  absl::Status status;
};

// Made on any thread; used on the thread of the loop that watches it.
class TcpStream {
 public:
  TcpStream(FileDescriptor fd, WireCounter counter);

  // Begins to watch, with no interest yet. `on_ready` may destroy the stream.
  void Watch(Loop* loop, Loop::ReadyTask on_ready);
  void SetInterest(bool readable, bool writable);

  // One sendmsg or recvmsg over `parts`. Never raises SIGPIPE. The peer's orderly end is
  // Unavailable. Nothing is allocated unless it fails.
  Transfer Send(std::span<iovec> parts);
  Transfer Receive(std::span<iovec> parts);

  // What has been sent and is not acknowledged yet, and the shortest round trip seen.
  struct Flight {
    uint64_t unacked_bytes = 0;
    int64_t min_round_trip_ns = 0;
  };
  Flight flight() const;
  // Bounds what the socket takes before the peer has acknowledged it. Without CAP_NET_ADMIN nothing
  // is done beyond net.core.wmem_max: it would only take the kernel's own, larger choice away.
  void SetSendBuffer(uint64_t bytes);

  // The socket counts as readable once it holds so many bytes, or its peer has ended.
  void SetReceiveMark(size_t bytes);

  bool open() const { return fd_.valid(); }
  void Close();
  // Tells the peer that nothing follows, and takes what it has sent off the socket, so that the
  // kernel does not answer with a reset that would destroy what is still on its way to the peer.
  void CloseGently();
  // Ends the watch and gives the socket away.
  FileDescriptor Release();
  const std::string& peer_name() const { return peer_name_; }

 private:
  FileDescriptor fd_;
  WireCounter counter_;
  std::string peer_name_;
  std::unique_ptr<FdWatcher> watcher_;  // goes before fd_
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_TCP_TCP_STREAM_H_
