#include "fakes/fake_control_channel.h"

#include <utility>

#include "base/check.h"
#include "protocol/codec.h"

namespace faultline {

void FakeControlChannel::Start(Listener* listener) {
  FAULTLINE_CHECK(control_->IsCurrent() && listener_ == nullptr);
  listener_ = listener;
  if (socket_ == nullptr) return;
  socket_->Receive(
      control_, [this](const FakeSocket::Bytes& bytes) { OnBytes(bytes); },
      [this](const absl::Status& status) { Close(status); });
}

void FakeControlChannel::Send(const Message& message) {
  FAULTLINE_CHECK(control_->IsCurrent());
  if (socket_ == nullptr) return;
  FakeFate fate = socket_->network()->FateOf(message, is_source_);
  if (fate == FakeFate::kDrop) return;
  if (fate == FakeFate::kCut) return socket_->network()->Cut();
  FakeSocket::Bytes bytes;
  EncodeMessage(socket_->network()->Rewrite(message), &bytes);
  socket_->Send(std::move(bytes), fate == FakeFate::kCutAfter);
}

void FakeControlChannel::OnBytes(const FakeSocket::Bytes& bytes) {
  std::weak_ptr<bool> alive = alive_;
  received_.insert(received_.end(), bytes.begin(), bytes.end());
  while (true) {
    auto decoded = DecodeMessage(received_);
    if (!decoded.ok()) return Close(decoded.status());
    if (decoded->bytes_used == 0) return;
    received_.erase(received_.begin(),
                    received_.begin() + static_cast<ptrdiff_t>(decoded->bytes_used));
    listener_->OnMessage(std::move(decoded->message));
    if (alive.expired()) return;
  }
}

void FakeControlChannel::Close(const absl::Status& reason) {
  socket_.reset();
  if (Listener* listener = std::exchange(listener_, nullptr)) listener->OnChannelClosed(reason);
}

}  // namespace faultline
