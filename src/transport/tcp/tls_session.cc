#include "transport/tcp/tls_session.h"

#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <utility>

#include "base/check.h"
#include "transport/tcp/openssl_handles.h"
#include "transport/tcp/tls_context.h"
#include "transport/tcp/tls_verdict.h"

namespace faultline {
namespace {

constexpr uint8_t kTlsHandshakeRecord = 0x16;
constexpr uint8_t kFaultlineHello = 0x01;  // a Hello's type, the least byte first
// A record's head, the kind within and the tag, which OpenSSL doesn't see if the kernel makes them.
constexpr uint64_t kRecordExtraBytes = 5 + 1 + 16;

// What surrounds each piece of work in OpenSSL. The thread's error queue is empty before, because
// SSL_get_error looks into it, and after. OpenSSL writes to its socket without MSG_NOSIGNAL, so the
// signal is blocked; a thread that blocks it already, as the lanes' do, pays one system call.
class OpenSslWork {
 public:
  OpenSslWork() {
    ERR_clear_error();
    sigemptyset(&sigpipe_);
    sigaddset(&sigpipe_, SIGPIPE);
    sigset_t before;
    pthread_sigmask(SIG_BLOCK, &sigpipe_, &before);
    was_blocked_ = sigismember(&before, SIGPIPE) == 1;
  }
  ~OpenSslWork() {
    ERR_clear_error();
    if (was_blocked_) return;
    const timespec now{};
    while (sigtimedwait(&sigpipe_, nullptr, &now) < 0 && errno == EINTR) {
    }
    pthread_sigmask(SIG_UNBLOCK, &sigpipe_, nullptr);
  }
  OpenSslWork(const OpenSslWork&) = delete;
  OpenSslWork& operator=(const OpenSslWork&) = delete;

 private:
  sigset_t sigpipe_;
  bool was_blocked_ = false;
};

size_t TotalOf(std::span<const iovec> parts) {
  size_t total = 0;
  for (const iovec& part : parts) total += part.iov_len;
  return total;
}

}  // namespace

TlsSession::TlsSession(std::shared_ptr<const TlsContext> context, SSL* ssl, int fd,
                       std::string peer_name)
    : context_(std::move(context)),
      ssl_(ssl),
      fd_(fd),
      peer_name_(std::move(peer_name)),
      records_left_(context_->options().records_per_key) {
  if (ssl_ != nullptr) SSL_set_app_data(ssl_, &refused_name_);
}

TlsSession::~TlsSession() { SSL_free(ssl_); }

absl::StatusOr<TlsNeed> TlsSession::Handshake() {
  if (established_) return TlsNeed::kNothing;
  if (!first_byte_seen_ && context_->options().role == TlsRole::kDestination) {
    RETURN_IF_ERROR(LookAtFirstByte());
    if (!first_byte_seen_) return TlsNeed::kReadable;
  }
  const OpenSslWork work;
  errno = 0;
  const int result = SSL_do_handshake(ssl_);
  if (result != 1) return Judge(result, errno);
  RETURN_IF_ERROR(CheckPeer());
  established_ = true;
  return TlsNeed::kNothing;
}

// A destination's peer speaks first. What is no TLS is turned away before OpenSSL sees it.
absl::Status TlsSession::LookAtFirstByte() {
  uint8_t first = 0;
  const ssize_t got = recv(fd_, &first, 1, MSG_PEEK | MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return absl::OkStatus();
  if (got < 0) return ErrnoStatus(errno, "receiving from " + peer_name_);
  if (got == 0) {
    return absl::UnavailableError("the peer " + peer_name_ + " closed the connection");
  }
  first_byte_seen_ = true;
  if (first == kTlsHandshakeRecord) return absl::OkStatus();
  peer_is_plain_ = first == kFaultlineHello;
  return absl::UnavailableError(
      fmt::format("the peer {} does not speak TLS: its first byte is {:#04x}", peer_name_, first));
}

// OpenSSL has looked at all of this itself; what a mistake in its settings would let through must
// not come through here.
absl::Status TlsSession::CheckPeer() const {
  const bool proved = context_->uses_psk() ? SSL_session_reused(ssl_) == 1
                                           : SSL_get0_peer_certificate(ssl_) != nullptr &&
                                                 SSL_get_verify_result(ssl_) == X509_V_OK;
  if (proved && SSL_version(ssl_) == TLS1_3_VERSION) return absl::OkStatus();
  return absl::PermissionDeniedError(
      fmt::format("the peer {} did not prove who it is", peer_name_));
}

Transfer TlsSession::Send(std::span<iovec> parts) {
  FAULTLINE_CHECK(established_);
  const size_t total = TotalOf(parts);
  FAULTLINE_CHECK(total >= record_pending_);
  const OpenSslWork work;
  size_t sent = 0;
  while (sent < total) {
    if (record_pending_ == 0) RenewKeyIfDue();
    // OpenSSL wants an unfinished record's length again. Its bytes it has, or has not looked at
    // yet: its own words, a change of keys for example, go first.
    const size_t length =
        record_pending_ != 0 ? record_pending_ : std::min(total - sent, kRecordBytesMax);
    size_t taken = 0;
    errno = 0;
    const int result = SSL_write_ex(ssl_, RecordOf(parts, sent, length), length, &taken);
    if (result != 1) {
      absl::StatusOr<TlsNeed> need = Judge(result, errno);
      if (!need.ok()) return {sent, need.status()};
      record_pending_ = length;
      send_need_ = *need;
      return {sent, absl::OkStatus()};
    }
    record_pending_ = 0;
    send_need_ = TlsNeed::kWritable;
    sent += taken;
    if (kernel_sends()) ++kernel_records_;
  }
  return {sent, absl::OkStatus()};
}

const void* TlsSession::RecordOf(std::span<const iovec> parts, size_t skip, size_t length) {
  const bool by_kernel = kernel_sends();
  if (by_kernel && record_pending_ != 0) return gathered_.data();
  size_t part = 0;
  while (skip >= parts[part].iov_len) skip -= parts[part++].iov_len;
  const auto* begin = static_cast<const std::byte*>(parts[part].iov_base) + skip;
  if (parts[part].iov_len - skip >= length && !by_kernel) return begin;
  gathered_.resize(kRecordBytesMax);
  for (size_t filled = 0; filled < length; skip = 0, ++part) {
    const size_t bytes = std::min(parts[part].iov_len - skip, length - filled);
    std::memcpy(gathered_.data() + filled,
                static_cast<const std::byte*>(parts[part].iov_base) + skip, bytes);
    filled += bytes;
  }
  return gathered_.data();
}

// The peer is not asked to do the same: it counts its own records.
void TlsSession::RenewKeyIfDue() {
  if (records_left_-- > 0) return;
  records_left_ = context_->options().records_per_key;
  // The kernel's records have keys that OpenSSL cannot change under it.
  if (kernel_sends()) return;
  // Not possible while an answer to the peer's own change of keys waits for the socket.
  if (SSL_key_update(ssl_, SSL_KEY_UPDATE_NOT_REQUESTED) == 1) return;
  ERR_clear_error();
  records_left_ = 0;
}

Transfer TlsSession::Receive(std::span<iovec> parts) {
  FAULTLINE_CHECK(established_);
  if (!receive_error_.ok()) return {0, receive_error_};
  const OpenSslWork work;  // which may have to send an answer to the peer's own words
  drained_ = false;
  size_t received = 0;
  for (const iovec& part : parts) {
    size_t filled = 0;
    while (filled < part.iov_len) {
      size_t got = 0;
      errno = 0;
      const int result = SSL_read_ex(ssl_, static_cast<std::byte*>(part.iov_base) + filled,
                                     part.iov_len - filled, &got);
      if (result == 1) {
        receive_need_ = TlsNeed::kReadable;
        filled += got;
        received += got;
        continue;
      }
      absl::StatusOr<TlsNeed> need = Judge(result, errno);
      if (need.ok()) {
        drained_ = true;
        receive_need_ = *need;
        return {received, absl::OkStatus()};
      }
      // What came before the end is given out first; this then shows in the next call.
      receive_error_ = need.status();
      return {received, received > 0 ? absl::OkStatus() : receive_error_};
    }
  }
  return {received, absl::OkStatus()};
}

absl::StatusOr<TlsNeed> TlsSession::Judge(int result, int error_number) {
  switch (SSL_get_error(ssl_, result)) {
    case SSL_ERROR_WANT_READ:
      return TlsNeed::kReadable;
    case SSL_ERROR_WANT_WRITE:
      return TlsNeed::kWritable;
    case SSL_ERROR_ZERO_RETURN:
      return absl::UnavailableError("the peer " + peer_name_ + " closed the connection");
    default:
      return ExplainTlsFailure(ssl_, context_->options(), peer_name_, error_number);
  }
}

uint64_t TlsSession::TakeWireBytes() {
  const uint64_t all = BIO_number_read(SSL_get_rbio(ssl_)) +
                       BIO_number_written(SSL_get_wbio(ssl_)) + kernel_records_ * kRecordExtraBytes;
  return all - std::exchange(wire_bytes_told_, all);
}

void TlsSession::EndSending() {
  if (!established_) return;
  const OpenSslWork work;
  SSL_shutdown(ssl_);
}

bool TlsSession::kernel_sends() const { return BIO_get_ktls_send(SSL_get_wbio(ssl_)) == 1; }

}  // namespace faultline
