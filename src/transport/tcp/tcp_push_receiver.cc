#include "transport/tcp/tcp_push_receiver.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "transport/tcp/tcp_push_lane.h"

namespace faultline {
namespace {

constexpr int kPushReadsPerTurnMax = 16;
// While a run lacks more than this, nobody is woken for less.
constexpr size_t kWakeBytes = 64 * 1024;

}  // namespace

TcpPushReceiver::TcpPushReceiver(Loop* bulk, TcpConnection connection, WireCounter counter,
                                 const LaneTerms& terms)
    : loop_(bulk),
      layout_(terms.layout),
      digest_bytes_(terms.integrity ? kPageDigestBytes : 0),
      stream_(std::move(connection), std::move(counter)) {}

void TcpPushReceiver::Start(Listener* listener) {
  FAULTLINE_CHECK(loop_->IsOwnThread() && listener_ == nullptr);
  listener_ = listener;
  stream_.Watch(loop_, [this](FdReadiness) { ReadSome(); });
  stream_.SetInterest(true, false);
}

void TcpPushReceiver::Stop() {
  FAULTLINE_CHECK(loop_->IsOwnThread());
  listener_ = nullptr;
  stream_.CloseGently();
}

void TcpPushReceiver::Resume() {
  FAULTLINE_CHECK(loop_->IsOwnThread());
  if (listener_ == nullptr || !held_) return;
  held_ = false;
  if (!OfferRun()) return;
  stream_.SetInterest(true, false);
  // The next header may have come with the run's last bytes; no other event tells of it.
  if (header_received_ == kPageFrameBytes && !BeginFrame()) return;
  AwaitMore();
}

// A wake-up costs as much as receiving 16 KiB, and a run is only good when it is whole.
void TcpPushReceiver::AwaitMore() {
  const size_t wanted = wire_bytes_ - wire_received_ >= kWakeBytes ? kWakeBytes : 1;
  if (wanted == wake_bytes_) return;
  wake_bytes_ = wanted;
  stream_.SetReceiveMark(wanted);
}

void TcpPushReceiver::ReadSome() {
  for (int turn = 0; turn < kPushReadsPerTurnMax; ++turn) {
    std::array<iovec, 2> parts;
    size_t count = 0;
    size_t run_missing = wire_bytes_ - wire_received_;
    PageBuffer& incoming = packed() ? packed_buffer_ : buffer_;
    if (run_missing > 0) parts[count++] = {incoming.data() + wire_received_, run_missing};
    parts[count++] = {header_.data() + header_received_, kPageFrameBytes - header_received_};
    Transfer transfer = stream_.Receive(std::span(parts).first(count));
    if (!transfer.status.ok()) {
      if (finished_) return stream_.Close();  // the source has nothing more to say
      return Fail(transfer.status);
    }
    if (transfer.bytes == 0) return AwaitMore();
    size_t run_part = std::min(transfer.bytes, run_missing);
    wire_received_ += run_part;
    header_received_ += transfer.bytes - run_part;
    if (wire_bytes_ != 0 && wire_received_ == wire_bytes_ && !FinishRun()) return;
    if (header_received_ == kPageFrameBytes && !BeginFrame()) return;
  }
  AwaitMore();
}

bool TcpPushReceiver::BeginFrame() {
  header_received_ = 0;
  auto frame = DecodePageFrame(header_, layout_, kTcpRunBytesMax);
  if (frame.ok() && finished_) {
    frame = absl::InvalidArgumentError(
        "bad page frame from the peer: field 'kind' begins a frame after the last one");
  }
  if (!frame.ok()) {
    Fail(frame.status());
    return false;
  }
  if (frame->kind == PageFrameKind::kFinished) {
    finished_ = true;
    listener_->OnPushFinished();
    return listener_ != nullptr;
  }
  if (!HasPages(frame->kind)) {
    listener_->OnRoundMark(frame->kind, static_cast<uint32_t>(frame->run.first));
    return listener_ != nullptr;
  }
  run_ = frame->run;
  algorithm_ = frame->algorithm;
  const bool is_zero = frame->kind == PageFrameKind::kZero;
  run_bytes_ = is_zero ? 0 : frame->run.count * layout_[frame->run.region].page_size_bytes;
  if (is_zero && digest_bytes_ == 0) return OfferRun();
  const bool is_packed = frame->kind == PageFrameKind::kPacked;
  // A packed run has fewer bytes than the run, so there is room for it where the run has room.
  const size_t room = std::max<size_t>(run_bytes_, kTcpRunBytesMax) + digest_bytes_;
  if (!buffer_.Reserve(room) || (is_packed && !packed_buffer_.Reserve(room))) {
    Fail(absl::ResourceExhaustedError("no memory for an incoming run of pages"));
    return false;
  }
  wire_bytes_ = (is_packed ? frame->packed_bytes : run_bytes_) + digest_bytes_;
  wire_received_ = 0;
  return true;
}

bool TcpPushReceiver::FinishRun() {
  PageBuffer& incoming = packed() ? packed_buffer_ : buffer_;
  const std::span<const std::byte> wire(incoming.data(), wire_bytes_);
  if (digest_bytes_ != 0) digest_ = DecodePageDigest(wire.last<kPageDigestBytes>());
  if (packed()) {
    absl::Status unpacked = unpacker_.Unpack(algorithm_, wire.first(wire.size() - digest_bytes_),
                                             {buffer_.data(), run_bytes_});
    if (!unpacked.ok()) {
      Fail(std::move(unpacked));
      return false;
    }
  }
  return OfferRun();
}

bool TcpPushReceiver::OfferRun() {
  bool taken = listener_->OnRun(run_, {buffer_.data(), run_bytes_}, digest_);
  if (listener_ == nullptr) return false;
  if (!taken) {
    held_ = true;
    stream_.SetInterest(false, false);
    return false;
  }
  wire_bytes_ = 0;
  wire_received_ = 0;
  return true;
}

void TcpPushReceiver::Fail(absl::Status status) {
  stream_.Close();
  if (Listener* listener = std::exchange(listener_, nullptr)) {
    listener->OnReceiverFailed(Annotate(status, "the bulk lane broke"));
  }
}

}  // namespace faultline
