// The TLS side of one connection: its handshake, and bytes in and out of records.
#ifndef FAULTLINE_TRANSPORT_TCP_TLS_SESSION_H_
#define FAULTLINE_TRANSPORT_TCP_TLS_SESSION_H_

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "transport/tcp/tcp_transfer.h"

struct ssl_st;  // OpenSSL's SSL

namespace faultline {

class TlsContext;

// What a TLS operation waits for on its socket: not always what its name says, since TLS has words
// of its own to exchange.
enum class TlsNeed : uint8_t { kNothing, kReadable, kWritable };

// Over a non-blocking socket that it does not own. One thread at a time: made and brought through
// its handshake on the control thread, then handed to the lane's. Never raises SIGPIPE, and leaves
// the thread's OpenSSL error queue empty.
class TlsSession {
 public:
  // A record that is not full costs as much as a full one.
  static constexpr size_t kRecordBytesMax = 16 * 1024;
  // What it may hold of a record that has not come whole: with Receive at its end, no more wire
  // bytes than these are in here and not in the socket any more.
  static constexpr size_t kHeldBytesMax = kRecordBytesMax + 512;

  // Takes `ssl`, which may be null only if the session is thrown away at once.
  TlsSession(std::shared_ptr<const TlsContext> context, ssl_st* ssl, int fd, std::string peer_name);
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  // Goes on with the handshake; kNothing: it is over, and the peer has proved what it must. Errors:
  // PermissionDenied or FailedPrecondition (a sentence about secrets or settings), Unavailable (the
  // peer went, or talked something else).
  absl::StatusOr<TlsNeed> Handshake();
  bool established() const { return established_; }
  // Handshake has failed because the peer began to talk Faultline without TLS.
  bool peer_is_plain() const { return peer_is_plain_; }

  // As TcpStream's. What Send does not take must be offered again, the same and first: a record
  // may hold it already.
  Transfer Send(std::span<iovec> parts);
  Transfer Receive(std::span<iovec> parts);
  // What the socket must be ready for before the next of these can get anywhere.
  TlsNeed send_need() const { return send_need_; }
  TlsNeed receive_need() const { return receive_need_; }
  // Bytes may lie in here that the socket does not tell of: call Receive until this is false.
  bool may_hold_bytes() const { return established_ && !drained_; }

  // Bytes on the wire since the last call, both ways, records and handshake included.
  uint64_t TakeWireBytes();
  // Tells the peer that nothing follows, if the socket takes that now.
  void EndSending();
  // The kernel makes the records (kTLS).
  bool kernel_sends() const;

 private:
  absl::Status CheckPeer() const;
  // What the peer's first byte says; Unavailable unless TLS can begin with it.
  absl::Status LookAtFirstByte();
  absl::StatusOr<TlsNeed> Judge(int result, int error_number);
  // `length` bytes of `parts` from `skip` on, in one piece. Where the kernel makes the records
  // OpenSSL comes back to the place that it was given first, so there they are copied to one that
  // stays as it is while the record is pending.
  const void* RecordOf(std::span<const iovec> parts, size_t skip, size_t length);
  void RenewKeyIfDue();

  const std::shared_ptr<const TlsContext> context_;
  ssl_st* const ssl_;
  const int fd_;
  const std::string peer_name_;

  bool established_ = false;
  bool first_byte_seen_ = false;
  bool peer_is_plain_ = false;
  TlsNeed send_need_ = TlsNeed::kWritable;
  TlsNeed receive_need_ = TlsNeed::kReadable;
  bool drained_ = false;       // the last Receive found the socket empty
  size_t record_pending_ = 0;  // bytes of a record that the socket did not take whole
  uint64_t records_left_;      // with the present key
  absl::Status receive_error_;
  std::string refused_name_;     // of a certificate; written by OpenSSL's callback
  uint64_t kernel_records_ = 0;  // that the kernel has made
  uint64_t wire_bytes_told_ = 0;
  std::vector<std::byte> gathered_;  // a record out of several parts; empty until there is one
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_TCP_TLS_SESSION_H_
