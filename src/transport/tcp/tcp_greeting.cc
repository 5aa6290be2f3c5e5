#include "transport/tcp/tcp_greeting.h"

#include <fmt/format.h>

#include <utility>

#include "base/check.h"
#include "protocol/codec.h"
#include "protocol/handshake.h"

namespace faultline {

TcpGreeting::TcpGreeting(Loop* control, TcpConnection connection, WireCounter counter)
    : loop_(control), stream_(std::move(connection), std::move(counter)) {
  stream_.Watch(loop_, [this](FdReadiness) { OnReady(); });
}

void TcpGreeting::Send(const Message& message) {
  std::vector<std::byte> bytes;
  EncodeMessage(message, &bytes);
  iovec part{bytes.data(), bytes.size()};
  if (stream_.Send({&part, 1}).bytes != bytes.size()) stream_.Close();
}

void TcpGreeting::Receive(int64_t timeout_us, Done done) {
  FAULTLINE_CHECK(loop_->IsOwnThread());
  done_ = std::move(done);
  bytes_.resize(kMessageHeaderBytes);
  received_ = 0;
  if (!stream_.open()) {
    timer_ = loop_->RunAfter(0, [this] {
      Finish(absl::UnavailableError("the peer " + stream_.peer_name() + " is gone"));
    });
    return;
  }
  stream_.SetInterest(true, false);
  timer_ = loop_->RunAfter(timeout_us, [this, timeout_us] {
    Finish(absl::DeadlineExceededError(
        fmt::format("the peer {} sent no whole message within {:.1f} s", stream_.peer_name(),
                    static_cast<double>(timeout_us) / 1e6)));
  });
}

void TcpGreeting::OnReady() {
  absl::StatusOr<bool> shaken = stream_.Handshake();
  if (!shaken.ok()) return Fail(shaken.status());
  if (!*shaken || !Fill()) return;
  auto needed = GreetingBytes(std::span(bytes_).first<kMessageHeaderBytes>());
  if (!needed.ok()) {
    if (BeginsTls(std::span(bytes_).first<kMessageHeaderBytes>())) misfit_ = Misfit::kPeerIsTls;
    return Finish(needed.status());
  }
  if (bytes_.size() < *needed) {
    bytes_.resize(*needed);
    if (!Fill()) return;
  }
  auto decoded = DecodeMessage(bytes_);
  if (!decoded.ok()) return Finish(decoded.status());
  Finish(std::move(decoded->message));
}

bool TcpGreeting::Fill() {
  while (received_ < bytes_.size()) {
    iovec part{bytes_.data() + received_, bytes_.size() - received_};
    Transfer transfer = stream_.Receive({&part, 1});
    if (!transfer.status.ok()) {
      Fail(transfer.status);
      return false;
    }
    if (transfer.bytes == 0) return false;
    received_ += transfer.bytes;
  }
  return true;
}

// Also later than the handshake: only with its first word a destination says what it thinks of the
// source's proof.
void TcpGreeting::Fail(const absl::Status& status) {
  if (stream_.peer_is_plain()) {
    misfit_ = Misfit::kPeerIsPlain;
  } else if (absl::IsPermissionDenied(status) || absl::IsFailedPrecondition(status)) {
    misfit_ = Misfit::kRefused;
  }
  Finish(status);
}

void TcpGreeting::Finish(absl::StatusOr<Message> message) {
  stream_.SetInterest(false, false);
  timer_.reset();
  Done done = std::exchange(done_, nullptr);
  done(std::move(message));
}

}  // namespace faultline
