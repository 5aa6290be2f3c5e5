#include "transport/rdma/rdma_push_receiver.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "transport/tcp/tcp_push_lane.h"

namespace faultline {

RdmaPushReceiver::RdmaPushReceiver(Loop* bulk, TcpConnection connection,
                                   const std::vector<std::shared_ptr<RdmaLink>>& links,
                                   std::shared_ptr<RailBytes> rail_bytes, WireCounter counter,
                                   const LaneTerms& terms)
    : loop_(bulk),
      layout_(terms.layout),
      digest_bytes_(terms.integrity ? kPageDigestBytes : 0),
      counter_(counter),
      stream_(std::move(connection), std::move(counter)),
      reads_(bulk, links, rail_bytes, this),
      landings_(bulk, links, std::move(rail_bytes), this) {}

void RdmaPushReceiver::Start(PushReceiver::Listener* listener) {
  FAULTLINE_CHECK(loop_->IsOwnThread() && listener_ == nullptr);
  listener_ = listener;
  reads_.Start();
  stream_.Watch(loop_, [this](FdReadiness ready) { OnReady(ready); });
  stream_.SetInterest(true, false);
}

void RdmaPushReceiver::Stop() {
  FAULTLINE_CHECK(loop_->IsOwnThread());
  listener_ = nullptr;
  reads_.Stop();
  landings_.Stop();
  stream_.CloseGently();
}

void RdmaPushReceiver::Resume() {
  FAULTLINE_CHECK(loop_->IsOwnThread());
  if (listener_ == nullptr || !held_) return;
  held_ = false;
  Advance();
}

void RdmaPushReceiver::OnReady(FdReadiness ready) {
  if (ready.writable) SendAnswers();
  if (stream_.open()) Advance();
}

void RdmaPushReceiver::Advance() {
  if (std::exchange(advancing_, true)) return;
  constexpr int kTurnsMax = 64;  // then the loop's other work has its turn
  // A frame that is whole has no readiness to wait for: it is not left.
  for (int turn = 0; (turn < kTurnsMax || frame_is_whole()) && listener_ != nullptr && !held_;
       ++turn) {
    if (!OfferNamed(&reads_) || !OfferNamed(&landings_) || !PostReads()) break;
    const bool finished = FinishFrame();
    if (listener_ == nullptr || held_) break;
    if (!finished && !ReadConnection()) break;
  }
  advancing_ = false;
  if (listener_ == nullptr) return;
  UpdateInterest();
  reads_.AwaitSoon();
  landings_.AwaitSoon();
}

bool RdmaPushReceiver::OfferNamed(RdmaRailRuns* runs) {
  while (runs->has_whole()) {
    const RdmaRailRuns::Run first = runs->first_whole();
    const bool taken = listener_->OnRun(first.run, first.bytes, std::nullopt);
    if (listener_ == nullptr) return false;
    if (!taken) {
      held_ = true;
      return false;
    }
    counter_->fetch_add(first.bytes.size(), std::memory_order_relaxed);
    if (absl::Status status = runs->TakeFirst(&answers_); !status.ok()) {
      Fail(std::move(status));
      return false;
    }
    SendAnswers();
  }
  return true;
}

bool RdmaPushReceiver::PostReads() {
  absl::Status status = reads_.Post();
  if (status.ok()) return true;
  Fail(std::move(status));
  return false;
}

bool RdmaPushReceiver::ReadConnection() {
  iovec part{head_.data() + head_received_, 0};
  if (frame_.has_value()) {
    part = {buffer_.data() + wire_received_, wire_bytes_ - wire_received_};
    if (part.iov_len == 0) return false;  // it waits for those before it
  } else {
    part.iov_len = head_bytes_ - head_received_;
  }
  Transfer transfer = stream_.Receive({&part, 1});
  if (!transfer.status.ok()) {
    if (finished_) {
      stream_.Close();  // the source has nothing more to say
    } else {
      Fail(transfer.status);
    }
    return false;
  }
  if (transfer.bytes == 0) return false;
  if (frame_.has_value()) {
    wire_received_ += transfer.bytes;
    return true;
  }
  head_received_ += transfer.bytes;
  return head_received_ < head_bytes_ || BeginFrame();
}

bool RdmaPushReceiver::BeginFrame() {
  auto frame = DecodePageFrame(std::span(head_).first<kPageFrameBytes>(), layout_, kTcpRunBytesMax,
                               RdmaFrames::kAccepted);
  if (frame.ok() && finished_) {
    frame = absl::InvalidArgumentError(
        "bad page frame from the peer: field 'kind' begins a frame after the last one");
  }
  if (frame.ok() && frame->kind == PageFrameKind::kPacked) {
    frame = absl::InvalidArgumentError(
        "bad page frame from the peer: field 'kind' says packed pages, which a lane with RDMA "
        "beside it has not");
  }
  if (!frame.ok()) {
    Fail(frame.status());
    return false;
  }
  std::optional<absl::Status> taken;
  if (frame->kind == PageFrameKind::kReadable) taken = TakeReadable(frame->run);
  if (frame->kind == PageFrameKind::kWritten) taken = TakeWritten(frame->run);
  if (frame->kind == PageFrameKind::kGrantsWanted) {
    EndHead();
    taken = landings_.Open(frame->run.first, &answers_);
    SendAnswers();
  }
  if (taken.has_value()) {
    if (!taken->ok()) Fail(*std::move(taken));
    return listener_ != nullptr;
  }
  EndHead();
  const bool has_data = frame->kind == PageFrameKind::kData;
  wire_bytes_ = (has_data ? BytesOf(frame->run) : 0) + (HasPages(frame->kind) ? digest_bytes_ : 0);
  wire_received_ = 0;
  if (!buffer_.Reserve(std::max<size_t>(wire_bytes_, kTcpRunBytesMax + kPageDigestBytes))) {
    Fail(absl::ResourceExhaustedError("no memory for an incoming run of pages"));
    return false;
  }
  frame_ = *frame;
  return true;
}

void RdmaPushReceiver::EndHead() {
  head_received_ = 0;
  head_bytes_ = kPageFrameBytes;
}

absl::Status RdmaPushReceiver::TakeReadable(const PageRun& run) {
  const std::span<const std::byte> received = std::span(head_).first(head_received_);
  if (digest_bytes_ != 0) {
    return absl::InvalidArgumentError(
        "bad page frame from the peer: field 'kind' says pages to be read, which have no check "
        "sum");
  }
  ASSIGN_OR_RETURN(head_bytes_, ReadableFrameBytes(received));
  if (head_received_ < head_bytes_) return absl::OkStatus();
  ASSIGN_OR_RETURN(const RailPlaces places, DecodeRailPlaces(received));
  EndHead();
  return reads_.Name(run, BytesOf(run), places);
}

absl::Status RdmaPushReceiver::TakeWritten(const PageRun& run) {
  if (digest_bytes_ != 0) {
    return absl::InvalidArgumentError(
        "bad page frame from the peer: field 'kind' says pages that are written, which have no "
        "check sum");
  }
  head_bytes_ = kPageFrameBytes + kWrittenSlotBytes;
  if (head_received_ < head_bytes_) return absl::OkStatus();
  const WrittenSlot at =
      DecodeWrittenSlot(std::span(head_).subspan<kPageFrameBytes, kWrittenSlotBytes>());
  EndHead();
  return landings_.Name(run, BytesOf(run), at);
}

bool RdmaPushReceiver::FinishFrame() {
  if (!frame_.has_value() || wire_received_ < wire_bytes_ || !is_idle()) return false;
  if (frame_->kind == PageFrameKind::kFinished) {
    frame_.reset();
    finished_ = true;
    listener_->OnPushFinished();
    return listener_ != nullptr;
  }
  if (!HasPages(frame_->kind)) {
    const PageFrame mark = *std::exchange(frame_, std::nullopt);
    listener_->OnRoundMark(mark.kind, static_cast<uint32_t>(mark.run.first));
    return listener_ != nullptr;
  }
  const std::span<const std::byte> wire(buffer_.data(), wire_bytes_);
  std::optional<uint64_t> digest;
  if (digest_bytes_ != 0) digest = DecodePageDigest(wire.last<kPageDigestBytes>());
  const bool taken = listener_->OnRun(frame_->run, wire.first(wire.size() - digest_bytes_), digest);
  if (listener_ == nullptr) return false;
  held_ = !taken;
  if (taken) frame_.reset();
  return taken;
}

void RdmaPushReceiver::SendAnswers() {
  while (!answers_.empty() && stream_.open()) {
    iovec part{answers_.data(), answers_.size()};
    Transfer transfer = stream_.Send({&part, 1});
    // A broken connection shows on the reading side too.
    if (!transfer.status.ok() || transfer.bytes == 0) return;
    answers_.erase(answers_.begin(), answers_.begin() + static_cast<ptrdiff_t>(transfer.bytes));
  }
}

void RdmaPushReceiver::UpdateInterest() {
  if (!stream_.open()) return;
  const bool waits = held_ || frame_is_whole();
  stream_.SetInterest(!waits, !answers_.empty());
}

void RdmaPushReceiver::Fail(absl::Status status) {
  PushReceiver::Listener* listener = std::exchange(listener_, nullptr);
  if (listener == nullptr) return;
  stream_.Close();
  reads_.Stop();
  landings_.Stop();
  listener->OnReceiverFailed(Annotate(status, "the bulk lane broke"));
}

}  // namespace faultline
