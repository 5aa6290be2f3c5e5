#include "transport/tcp/tcp_greeting.h"

#include <fmt/format.h>

#include <utility>

#include "base/check.h"
#include "protocol/codec.h"
#include "protocol/handshake.h"

namespace faultline {

TcpGreeting::TcpGreeting(Loop* control, FileDescriptor fd, WireCounter counter)
    : loop_(control), stream_(std::move(fd), std::move(counter)) {
  stream_.Watch(loop_, [this](FdReadiness) { OnReadable(); });
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

void TcpGreeting::OnReadable() {
  while (true) {
    iovec part{bytes_.data() + received_, bytes_.size() - received_};
    Transfer transfer = stream_.Receive({&part, 1});
    if (!transfer.status.ok()) return Finish(transfer.status);
    if (transfer.bytes == 0) return;
    received_ += transfer.bytes;
    if (received_ < bytes_.size()) continue;
    auto needed = GreetingBytes(std::span(bytes_).first<kMessageHeaderBytes>());
    if (!needed.ok()) return Finish(needed.status());
    if (received_ == *needed) break;
    bytes_.resize(*needed);
  }
  auto decoded = DecodeMessage(bytes_);
  if (!decoded.ok()) return Finish(decoded.status());
  Finish(std::move(decoded->message));
}

void TcpGreeting::Finish(absl::StatusOr<Message> message) {
  stream_.SetInterest(false, false);
  timer_.reset();
  Done done = std::exchange(done_, nullptr);
  done(std::move(message));
}

}  // namespace faultline
