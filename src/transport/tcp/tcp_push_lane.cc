#include "transport/tcp/tcp_push_lane.h"

#include <utility>

#include "base/check.h"

namespace faultline {

TcpPushLane::TcpPushLane(Loop* bulk, FileDescriptor fd, WireCounter counter,
                         uint64_t bandwidth_bytes_per_second)
    : loop_(bulk),
      stream_(std::move(fd), std::move(counter)),
      bucket_(bandwidth_bytes_per_second, bulk->NowNanos()) {}

void TcpPushLane::Start(const SourceMemory* memory, Listener* listener) {
  FAULTLINE_CHECK(loop_->IsOwnThread() && listener_ == nullptr);
  memory_ = memory;
  listener_ = listener;
  stream_.Watch(loop_, [this](FdReadiness ready) { OnReady(ready); });
  stream_.SetInterest(true, false);
}

void TcpPushLane::Stop() {
  FAULTLINE_CHECK(loop_->IsOwnThread());
  listener_ = nullptr;
  pace_.reset();
  send_error_timer_.reset();
  stream_.CloseGently();
}

bool TcpPushLane::TryPush(PageRun run) {
  FAULTLINE_CHECK(loop_->IsOwnThread() && memory_ != nullptr && !run.empty() && !finish_wanted_);
  if (!stream_.open() || !send_error_.ok()) return false;
  if (busy()) {
    room_wanted_ = true;
    return false;
  }
  if (int64_t wait_ns = bucket_.WaitNanos(loop_->NowNanos()); wait_ns > 0) {
    room_wanted_ = true;
    pace_ = loop_->RunAfter((wait_ns + 999) / 1000, [this] { OfferRoom(); });
    return false;
  }
  std::span<const std::byte> data = memory_->View(run);
  FAULTLINE_CHECK(run.count == 1 || data.size() <= kTcpRunBytesMax);
  bucket_.Take(kPageFrameBytes + data.size());
  BeginFrame({PageFrameKind::kData, run}, data);
  return true;
}

void TcpPushLane::Finish() {
  FAULTLINE_CHECK(loop_->IsOwnThread() && !finish_wanted_);
  finish_wanted_ = true;
  if (stream_.open() && send_error_.ok() && !busy()) BeginFinish();
}

void TcpPushLane::BeginFinish() {
  finish_begun_ = true;
  BeginFrame({PageFrameKind::kFinished, {}}, {});
}

void TcpPushLane::BeginFrame(const PageFrame& frame, std::span<const std::byte> data) {
  EncodePageFrame(frame, header_);
  data_ = data;
  sent_ = 0;
  if (SendSome()) return;
  // The caller is the listener itself, in the middle of something: it hears of it afterwards.
  send_error_timer_ = loop_->RunAfter(0, [this] { Fail(send_error_); });
}

bool TcpPushLane::SendSome() {
  while (busy()) {
    std::array<iovec, 2> parts;
    size_t count = 0;
    if (sent_ < kPageFrameBytes) parts[count++] = {header_.data() + sent_, kPageFrameBytes - sent_};
    size_t data_sent = sent_ > kPageFrameBytes ? sent_ - kPageFrameBytes : 0;
    if (data_sent < data_.size()) {
      parts[count++] = {const_cast<std::byte*>(data_.data()) + data_sent, data_.size() - data_sent};
    }
    Transfer transfer = stream_.Send(std::span(parts).first(count));
    if (!transfer.status.ok()) {
      send_error_ = transfer.status;
      return false;
    }
    if (transfer.bytes == 0) {
      stream_.SetInterest(true, true);
      return true;
    }
    sent_ += transfer.bytes;
    bytes_sent_.fetch_add(transfer.bytes, std::memory_order_relaxed);
  }
  stream_.SetInterest(true, false);
  return true;
}

void TcpPushLane::OnReady(FdReadiness ready) {
  if (ready.readable) {
    ReadNothing();
    if (!stream_.open()) return;
  }
  if (!ready.writable) return;
  if (!SendSome()) return Fail(send_error_);
  if (busy()) return;
  if (finish_wanted_ && !finish_begun_) return BeginFinish();
  OfferRoom();
}

void TcpPushLane::ReadNothing() {
  std::byte byte;
  iovec part{&byte, 1};
  Transfer transfer = stream_.Receive({&part, 1});
  if (transfer.status.ok()) {
    if (transfer.bytes == 0) return;
    return Fail(absl::InvalidArgumentError("the peer sent something on the bulk lane"));
  }
  if (finish_begun_ && !busy()) return stream_.Close();  // it has all it wanted
  Fail(transfer.status);
}

void TcpPushLane::OfferRoom() {
  pace_.reset();
  if (listener_ == nullptr || !stream_.open() || busy()) return;
  if (std::exchange(room_wanted_, false)) listener_->OnLaneWritable();
}

void TcpPushLane::Fail(absl::Status status) {
  stream_.Close();
  pace_.reset();
  send_error_timer_.reset();
  if (Listener* listener = std::exchange(listener_, nullptr)) {
    listener->OnLaneFailed(Annotate(status, "the bulk lane broke"));
  }
}

}  // namespace faultline
