#include "transport/tcp/tcp_push_lane.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "transport/tcp/zero_stretches.h"

namespace faultline {
namespace {

constexpr int64_t kFlightIntervalNs = 1'000'000;

}  // namespace

TcpPushLane::TcpPushLane(Loop* bulk, TcpConnection connection, WireCounter counter,
                         const Settings& settings)
    : loop_(bulk),
      integrity_(settings.integrity),
      stream_(std::move(connection), std::move(counter)),
      bucket_(settings.bandwidth_bytes_per_second, bulk->NowNanos()),
      policy_(settings.compression) {}

void TcpPushLane::Start(const SourceMemory* memory, Listener* listener) {
  FAULTLINE_CHECK(loop_->IsOwnThread() && listener_ == nullptr);
  memory_ = memory;
  listener_ = listener;
  stream_.Watch(loop_, [this](FdReadiness ready) { OnReady(ready); });
  UpdateInterest();
}

void TcpPushLane::Stop() {
  FAULTLINE_CHECK(loop_->IsOwnThread());
  listener_ = nullptr;
  pace_.reset();
  send_error_timer_.reset();
  stream_.CloseGently();
}

bool TcpPushLane::HasRoom() {
  if (!stream_.open() || !send_error_.ok()) return false;
  if (!busy()) return true;
  room_wanted_ = true;
  return false;
}

bool TcpPushLane::TryMark(PageFrameKind mark, uint32_t round) {
  FAULTLINE_CHECK(loop_->IsOwnThread() && memory_ != nullptr && !finish_wanted_);
  FAULTLINE_CHECK(mark == PageFrameKind::kRoundBegin || mark == PageFrameKind::kRoundEnd);
  if (!HasRoom()) return false;
  digest_ = {};
  BeginFrame({mark, {0, round, 0}}, {});
  SendBegun();
  return true;
}

bool TcpPushLane::TryPush(PageRun run) {
  FAULTLINE_CHECK(loop_->IsOwnThread() && memory_ != nullptr && !run.empty() && !finish_wanted_);
  if (!HasRoom()) return false;
  if (int64_t wait_ns = bucket_.WaitNanos(loop_->NowNanos()); wait_ns > 0) {
    room_wanted_ = true;
    pace_ = loop_->RunAfter((wait_ns + 999) / 1000, [this] { OfferRoom(); });
    return false;
  }
  if (absl::Status status = ReadRun(run); !status.ok()) {
    FailSoon(std::move(status));
    return false;
  }
  SendBegun();
  return true;
}

// A copy, though the kernel could send from the file itself: on loopback the receiver, which is the
// limit there, then takes half as long again (docs/performance.md).
absl::Status TcpPushLane::ReadRun(PageRun run) {
  const uint64_t page_bytes = memory_->layout()[run.region].page_size_bytes;
  const size_t bytes = run.count * page_bytes;
  FAULTLINE_CHECK(run.count == 1 || bytes <= kTcpRunBytesMax);
  if (!buffer_.Reserve(std::max<size_t>(bytes, kTcpRunBytesMax))) {
    return absl::ResourceExhaustedError("no memory for a buffer of outgoing pages");
  }
  std::span<std::byte> data(buffer_.data(), bytes);
  RETURN_IF_ERROR(memory_->Read(run.region, run.first * page_bytes, data));
  rest_ = run;
  rest_data_ = data;
  return absl::OkStatus();
}

void TcpPushLane::BeginStretch() {
  const size_t page_bytes = memory_->layout()[rest_.region].page_size_bytes;
  const Stretch stretch = FirstStretch(rest_data_, page_bytes);
  std::span<const std::byte> data = rest_data_.first(stretch.pages * page_bytes);
  PageFrame frame{PageFrameKind::kData, {rest_.region, rest_.first, stretch.pages}};
  digest_ = {};
  if (integrity_) {
    EncodePageDigest(DigestOfRun(frame.run, stretch.is_zero ? std::span<const std::byte>() : data),
                     digest_bytes_);
    digest_ = digest_bytes_;
  }
  rest_ = {rest_.region, rest_.first + stretch.pages, rest_.count - stretch.pages};
  rest_data_ = rest_data_.subspan(data.size());
  if (stretch.is_zero) {
    frame.kind = PageFrameKind::kZero;
    data = {};
  } else {
    data = PackIfWorth(data, &frame);
  }
  bucket_.Take(kPageFrameBytes + data.size() + digest_.size());
  BeginFrame(frame, data);
}

std::span<const std::byte> TcpPushLane::PackIfWorth(std::span<const std::byte> data,
                                                    PageFrame* frame) {
  const int64_t now_ns = loop_->NowNanos();
  if (PackAlgorithm wanted = policy_.WantsSample(now_ns); wanted != PackAlgorithm::kNone) {
    Pack(wanted, data.first(std::min(data.size(), PackPolicy::kSampleBytesMax)));
  }
  const PackAlgorithm algorithm = policy_.Choose(now_ns);
  policy_.NoteRun(data.size());
  if (algorithm == PackAlgorithm::kNone || data.size() > kPackedRunBytesMax) return data;
  std::span<const std::byte> packed = Pack(algorithm, data);
  if (packed.empty()) return data;
  packed_in_bytes_.fetch_add(data.size(), std::memory_order_relaxed);
  packed_out_bytes_.fetch_add(packed.size(), std::memory_order_relaxed);
  frame->kind = PageFrameKind::kPacked;
  frame->algorithm = algorithm;
  frame->packed_bytes = static_cast<uint32_t>(packed.size());
  return packed;
}

std::span<const std::byte> TcpPushLane::Pack(PackAlgorithm algorithm,
                                             std::span<const std::byte> data) {
  const int64_t began_ns = loop_->NowNanos();
  std::span<const std::byte> packed = packer_.Pack(algorithm, data);
  const int64_t now_ns = loop_->NowNanos();
  policy_.NotePacking(now_ns, algorithm, data.size(), packed.empty() ? data.size() : packed.size(),
                      now_ns - began_ns);
  return packed;
}

PackedBytes TcpPushLane::bytes_packed() const {
  return {packed_in_bytes_.load(std::memory_order_relaxed),
          packed_out_bytes_.load(std::memory_order_relaxed)};
}

void TcpPushLane::Finish() {
  FAULTLINE_CHECK(loop_->IsOwnThread() && !finish_wanted_);
  finish_wanted_ = true;
  if (stream_.open() && send_error_.ok() && !busy()) BeginFinish();
}

void TcpPushLane::BeginFinish() {
  finish_begun_ = true;
  digest_ = {};
  BeginFrame({PageFrameKind::kFinished, {}}, {});
  SendBegun();
}

void TcpPushLane::BeginFrame(const PageFrame& frame, std::span<const std::byte> data) {
  EncodePageFrame(frame, header_);
  data_ = data;
  sent_ = 0;
}

void TcpPushLane::SendBegun() {
  if (!SendSome()) return FailSoon(send_error_);
  // Otherwise more comes at once most often, and each change of interest is three system calls.
  if (busy()) UpdateInterest();
}

// The caller is the listener itself, in the middle of something: it hears of it afterwards.
void TcpPushLane::FailSoon(absl::Status status) {
  send_error_ = std::move(status);
  send_error_timer_ = loop_->RunAfter(0, [this] { Fail(send_error_); });
}

bool TcpPushLane::SendSome() {
  NoteFlight();
  while (busy()) {
    if (frame_sent()) BeginStretch();
    Transfer transfer = SendOnce();
    if (!transfer.status.ok()) {
      send_error_ = transfer.status;
      return false;
    }
    if (transfer.bytes == 0) {
      was_full_ = true;
      return true;
    }
    sent_ += transfer.bytes;
    bytes_sent_.fetch_add(transfer.bytes, std::memory_order_relaxed);
  }
  return true;
}

Transfer TcpPushLane::SendOnce() {
  const size_t after_header = sent_ > kPageFrameBytes ? sent_ - kPageFrameBytes : 0;
  const size_t data_sent = std::min(after_header, data_.size());
  // A huge page is one frame, but not one burst.
  const size_t data_bytes = std::min<size_t>(data_.size() - data_sent, bound_.burst_bytes());
  std::array<iovec, 3> parts;
  size_t count = 0;
  if (sent_ < kPageFrameBytes) parts[count++] = {header_.data() + sent_, kPageFrameBytes - sent_};
  if (data_bytes > 0) {
    parts[count++] = {const_cast<std::byte*>(data_.data()) + data_sent, data_bytes};
  }
  if (const size_t digest_sent = after_header - data_sent;
      data_sent + data_bytes == data_.size() && digest_sent < digest_.size()) {
    parts[count++] = {const_cast<std::byte*>(digest_.data()) + digest_sent,
                      digest_.size() - digest_sent};
  }
  return stream_.Send(std::span(parts).first(count));
}

// Measures the link, and lets no more queue up than it carries away soon.
void TcpPushLane::NoteFlight() {
  const int64_t now_ns = loop_->NowNanos();
  if (now_ns - flight_noted_ns_ < kFlightIntervalNs) return;
  flight_noted_ns_ = now_ns;
  TcpStream::Flight flight = stream_.flight();
  bound_.Note({.now_ns = now_ns,
               .acked_bytes = flight.acked_bytes,
               .min_round_trip_ns = flight.min_round_trip_ns,
               .was_full = std::exchange(was_full_, false)});
  uint64_t wanted = bound_.buffer_bytes();
  if (wanted == 0) {
    if (send_buffer_bytes_ == 0) return;   // it is the kernel's still
    wanted = QueueBound::kBufferBytesMax;  // which does not take it back
  }
  if (wanted > send_buffer_bytes_ * 7 / 8 && wanted <= send_buffer_bytes_) return;
  send_buffer_bytes_ = wanted;
  stream_.SetSendBuffer(wanted);
}

void TcpPushLane::UpdateInterest() {
  stream_.SetInterest(true, busy() || (room_wanted_ && pace_ == nullptr));
}

void TcpPushLane::OnReady(FdReadiness ready) {
  if (ready.readable) {
    ReadNothing();
    if (!stream_.open()) return;
  }
  if (!ready.writable) return;
  if (!SendSome()) return Fail(send_error_);
  if (!busy() && finish_wanted_ && !finish_begun_) return BeginFinish();
  OfferRoom();
  UpdateInterest();
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
