#include "transport/tcp/tcp_control_channel.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/check.h"
#include "protocol/codec.h"
#include "transport/tcp/device_state_packer.h"

namespace faultline {
namespace {

constexpr size_t kReadBytes = 64 * 1024;
constexpr size_t kReceivedBytesMax = kMessageHeaderBytes + kMessagePayloadBytesMax + kReadBytes;

}  // namespace

TcpControlChannel::TcpControlChannel(Loop* control, TcpConnection connection, WireCounter counter)
    : loop_(control), stream_(std::move(connection), std::move(counter)) {
  FAULTLINE_CHECK(loop_->IsOwnThread());
  stream_.Watch(loop_, [this](FdReadiness ready) { OnReady(ready); });
}

TcpControlChannel::~TcpControlChannel() {
  FAULTLINE_CHECK(loop_->IsOwnThread());
  if (!stream_.open()) return;
  Flush();
  stream_.CloseGently();
}

void TcpControlChannel::Start(Listener* listener) {
  FAULTLINE_CHECK(loop_->IsOwnThread() && listener_ == nullptr);
  listener_ = listener;
  UpdateInterest();
}

void TcpControlChannel::Send(const Message& message) {
  FAULTLINE_CHECK(loop_->IsOwnThread());
  if (!stream_.open() || send_failed_) return;
  const auto* state = std::get_if<DeviceState>(&message);
  EncodeMessage(state != nullptr ? PackDeviceState(*state) : message, &unsent_);
  Flush();
  UpdateInterest();
}

void TcpControlChannel::OnReady(FdReadiness ready) {
  if (ready.writable) {
    Flush();
    UpdateInterest();
  }
  if (ready.readable && listener_ != nullptr) ReadSome();
}

void TcpControlChannel::ReadSome() {
  received_.resize(std::max(received_.size(), received_bytes_ + kReadBytes));
  iovec part{received_.data() + received_bytes_, received_.size() - received_bytes_};
  Transfer transfer = stream_.Receive({&part, 1});
  if (!transfer.status.ok()) return Close(transfer.status);
  received_bytes_ += transfer.bytes;
  if (DeliverMessages()) FAULTLINE_CHECK(received_bytes_ <= kReceivedBytesMax);
}

bool TcpControlChannel::DeliverMessages() {
  std::weak_ptr<bool> alive = alive_;
  size_t used = 0;
  while (true) {
    auto decoded =
        DecodeMessage(std::span<const std::byte>(received_).first(received_bytes_).subspan(used));
    if (!decoded.ok()) {
      Close(decoded.status());
      return false;
    }
    if (decoded->bytes_used == 0) break;
    used += decoded->bytes_used;
    if (const auto* packed = std::get_if<PackedDeviceState>(&decoded->message)) {
      absl::StatusOr<DeviceState> state = UnpackDeviceState(*packed);
      if (!state.ok()) {
        Close(state.status());
        return false;
      }
      decoded->message = std::move(*state);
    }
    listener_->OnMessage(std::move(decoded->message));
    if (alive.expired()) return false;
  }
  std::copy(received_.begin() + static_cast<ptrdiff_t>(used),
            received_.begin() + static_cast<ptrdiff_t>(received_bytes_), received_.begin());
  received_bytes_ -= used;
  return true;
}

void TcpControlChannel::Flush() {
  while (unsent_begin_ < unsent_.size()) {
    iovec part{unsent_.data() + unsent_begin_, unsent_.size() - unsent_begin_};
    Transfer transfer = stream_.Send({&part, 1});
    if (!transfer.status.ok()) {
      send_failed_ = true;
      break;
    }
    if (transfer.bytes == 0) return;
    unsent_begin_ += transfer.bytes;
  }
  unsent_.clear();
  unsent_begin_ = 0;
}

void TcpControlChannel::UpdateInterest() {
  stream_.SetInterest(listener_ != nullptr, !unsent_.empty());
}

void TcpControlChannel::Close(absl::Status reason) {
  stream_.Close();
  if (Listener* listener = std::exchange(listener_, nullptr)) {
    listener->OnChannelClosed(std::move(reason));
  }
}

}  // namespace faultline
