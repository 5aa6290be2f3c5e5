#include "transport/rdma/rdma_push_lane.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "protocol/codec.h"
#include "transport/rdma/readable_frame.h"
#include "transport/tcp/zero_stretches.h"

namespace faultline {
namespace {

// A shorter stretch among pages that are sent is sent with them.
constexpr uint64_t kReadBytesMin = 16 * 1024;

}  // namespace

RdmaPushLane::RdmaPushLane(Loop* bulk, TcpConnection connection, std::vector<RdmaPushRail> rails,
                           WireCounter counter, const Settings& settings)
    : loop_(bulk),
      rails_(std::move(rails)),
      named_max_(kRdmaRunsNamedMax * static_cast<uint32_t>(rails_.size())),
      integrity_(settings.integrity),
      counter_(counter),
      stream_(std::move(connection), std::move(counter)),
      bucket_(settings.bandwidth_bytes_per_second, bulk->NowNanos()) {}

void RdmaPushLane::Start(const SourceMemory* memory, PushLane::Listener* listener) {
  FAULTLINE_CHECK(loop_->IsOwnThread() && listener_ == nullptr);
  memory_ = memory;
  listener_ = listener;
  for (const RdmaPushRail& rail : rails_) {
    rail.link->OnBroken([this](const absl::Status& status) { Fail(status); });
    if (rail.registered == nullptr || integrity_) continue;
    readable_.push_back({rail.number, &rail.registered->Readable()});
  }
  stream_.Watch(loop_, [this](FdReadiness ready) { OnReady(ready); });
  if (!readable_.empty() && rails_.front().link->connection()->writes_max() > 0) {
    RdmaRailWrites::Listener* const self = this;
    writes_ =
        std::make_unique<RdmaRailWrites>(loop_, rails_, RdmaBulkSlotBytes(memory_->layout()), self);
    writes_->Start(&unsent_);
    if (!Send()) return;
  }
  UpdateInterest();
}

void RdmaPushLane::Stop() {
  FAULTLINE_CHECK(loop_->IsOwnThread());
  listener_ = nullptr;
  Unwatch();
  pace_.reset();
  failure_.reset();
  if (writes_ != nullptr) writes_->Stop();
  stream_.CloseGently();
}

bool RdmaPushLane::HasRoom() {
  if (!stream_.open() || failure_ != nullptr) return false;
  if (has_room()) return true;
  room_wanted_ = true;
  UpdateInterest();
  return false;
}

bool RdmaPushLane::TryMark(PageFrameKind mark, uint32_t round) {
  FAULTLINE_CHECK(loop_->IsOwnThread() && memory_ != nullptr && !finish_wanted_);
  FAULTLINE_CHECK(mark == PageFrameKind::kRoundBegin || mark == PageFrameKind::kRoundEnd);
  if (!HasRoom()) return false;
  AppendFrame({mark, {0, round, 0}});
  bytes_sent_.fetch_add(kPageFrameBytes, std::memory_order_relaxed);
  if (Send()) UpdateInterest();
  return true;
}

bool RdmaPushLane::TryPush(PageRun run) {
  FAULTLINE_CHECK(loop_->IsOwnThread() && memory_ != nullptr && !run.empty() && !finish_wanted_);
  if (!HasRoom()) return false;
  if (int64_t wait_ns = bucket_.WaitNanos(loop_->NowNanos()); wait_ns > 0) {
    room_wanted_ = true;
    pace_ = loop_->RunAfter((wait_ns + 999) / 1000, [this] { OfferRoom(); });
    return false;
  }
  rest_ = run;
  return GoOn();
}

bool RdmaPushLane::GoOn() {
  while (!busy() && !rest_.empty() && may_name()) {
    if (absl::Status status = Compose(); !status.ok()) {
      FailSoon(std::move(status));
      return false;
    }
    if (!Send()) return false;
  }
  if (finish_wanted_ && !finish_composed_ && rest_.empty()) {
    finish_composed_ = true;
    AppendFrame({PageFrameKind::kFinished, {}});
    bytes_sent_.fetch_add(kPageFrameBytes, std::memory_order_relaxed);
    if (!Send()) return false;
  }
  UpdateInterest();
  return true;
}

RdmaPushLane::Piece RdmaPushLane::FirstPiece(const PageRun& run) const {
  const uint64_t page_bytes = memory_->layout()[run.region].page_size_bytes;
  if (readable_.empty() || page_bytes > kRdmaPageBytesMax) return {run, {}};
  PageRun unread{run.region, run.first, 0};
  for (PageRun rest = run; !rest.empty();) {
    const RailBeginning next = BeginningOnRails(readable_, rest);
    const bool is_worth_it = next.pages * page_bytes >= kReadBytesMin || next.pages == run.count;
    if (!next.places.empty() && is_worth_it) {
      if (unread.empty()) return {{run.region, run.first, next.pages}, next.places};
      break;
    }
    unread.count += next.pages;
    rest = {rest.region, rest.first + next.pages, rest.count - next.pages};
  }
  return {unread, {}};
}

absl::Status RdmaPushLane::Compose() {
  while (!rest_.empty() && may_name()) {
    const Piece piece = FirstPiece(rest_);
    rest_ = {rest_.region, rest_.first + piece.run.count, rest_.count - piece.run.count};
    if (piece.places.empty()) {
      RETURN_IF_ERROR(ComposeData(piece.run));
      continue;
    }
    RETURN_IF_ERROR(ComposeNamed(piece));
  }
  return absl::OkStatus();
}

// The destination fetches the pages, or they go beside the connection.
absl::Status RdmaPushLane::ComposeNamed(const Piece& piece) {
  const uint64_t bytes = piece.run.count * memory_->layout()[piece.run.region].page_size_bytes;
  if (writes_ != nullptr) {
    ASSIGN_OR_RETURN(const WrittenSlot at, writes_->Write(piece.places, bytes));
    std::array<std::byte, kWrittenSlotBytes> where;
    EncodeWrittenSlot(at, where);
    AppendFrame({PageFrameKind::kWritten, piece.run});
    Append(where);
    writes_->AwaitSoon();
    counter_->fetch_add(bytes, std::memory_order_relaxed);
  } else {
    AppendReadableFrame(piece.run, piece.places, &unsent_);
    ++named_;
  }
  bytes_sent_.fetch_add(bytes, std::memory_order_relaxed);
  bucket_.Take(bytes);
  return absl::OkStatus();
}

absl::Status RdmaPushLane::ComposeData(const PageRun& run) {
  const uint64_t page_bytes = memory_->layout()[run.region].page_size_bytes;
  const size_t bytes = run.count * page_bytes;
  const size_t unsent_before = unsent_.size();
  if (!buffer_.Reserve(std::max<size_t>(bytes, kRdmaRunBytesMax))) {
    return absl::ResourceExhaustedError("no memory for a buffer of outgoing pages");
  }
  std::span<const std::byte> left(buffer_.data(), bytes);
  RETURN_IF_ERROR(memory_->Read(run.region, run.first * page_bytes, {buffer_.data(), bytes}));
  for (PageRun rest = run; !rest.empty();) {
    const Stretch stretch = FirstStretch(left, page_bytes);
    PageFrame frame{stretch.is_zero ? PageFrameKind::kZero : PageFrameKind::kData,
                    {rest.region, rest.first, stretch.pages}};
    AppendFrame(frame);
    std::span<const std::byte> data = left.first(stretch.pages * page_bytes);
    left = left.subspan(data.size());
    if (stretch.is_zero) data = {};
    Append(data);
    if (integrity_) {
      std::array<std::byte, kPageDigestBytes> digest;
      EncodePageDigest(DigestOfRun(frame.run, data), digest);
      Append(digest);
    }
    rest = {rest.region, rest.first + stretch.pages, rest.count - stretch.pages};
  }
  const size_t composed = unsent_.size() - unsent_before;
  bytes_sent_.fetch_add(composed, std::memory_order_relaxed);
  bucket_.Take(composed);
  return absl::OkStatus();
}

void RdmaPushLane::Append(std::span<const std::byte> bytes) {
  unsent_.insert(unsent_.end(), bytes.begin(), bytes.end());
}

void RdmaPushLane::AppendFrame(const PageFrame& frame) {
  std::array<std::byte, kPageFrameBytes> header;
  EncodePageFrame(frame, header);
  Append(header);
}

void RdmaPushLane::Finish() {
  FAULTLINE_CHECK(loop_->IsOwnThread() && !finish_wanted_);
  finish_wanted_ = true;
  if (stream_.open() && failure_ == nullptr) GoOn();
}

// Sends what the socket takes; false: it failed, which the listener hears afterwards.
bool RdmaPushLane::Send() {
  while (busy()) {
    iovec part{unsent_.data() + unsent_begin_, unsent_.size() - unsent_begin_};
    Transfer transfer = stream_.Send({&part, 1});
    if (!transfer.status.ok()) {
      FailSoon(transfer.status);
      return false;
    }
    if (transfer.bytes == 0) return true;
    unsent_begin_ += transfer.bytes;
  }
  unsent_.clear();
  unsent_begin_ = 0;
  return true;
}

void RdmaPushLane::OnReady(FdReadiness ready) {
  if (ready.readable) {
    ReadAnswers();
    if (!stream_.open()) return;
  }
  if (ready.writable && busy() && !Send()) return;
  OnWriteDone();
}

// There may be room: for what was taken last, and then for more.
void RdmaPushLane::OnWriteDone() {
  if (!stream_.open() || failure_ != nullptr || !GoOn()) return;
  OfferRoom();
  if (stream_.open()) UpdateInterest();
}

void RdmaPushLane::ReadAnswers() {
  std::array<std::byte, kRdmaSlotsGranted * kWriteGrantBytes> answers;
  iovec part{answers.data(), answers.size()};
  Transfer transfer = stream_.Receive({&part, 1});
  if (!transfer.status.ok()) {
    if (!finish_composed_ || busy() || untaken() > 0) return Fail(transfer.status);
    if (writes_ != nullptr) writes_->Stop();
    return stream_.Close();  // it has all it wanted
  }
  absl::Status status = TakeAnswers(std::span(answers).first(transfer.bytes));
  if (!status.ok()) Fail(std::move(status));
}

absl::Status RdmaPushLane::TakeAnswers(std::span<const std::byte> bytes) {
  if (writes_ != nullptr) return writes_->TakeGrants(bytes);
  if (bytes.size() > named_) {
    return absl::InvalidArgumentError("the peer took more runs than it was given");
  }
  named_ -= static_cast<uint32_t>(bytes.size());
  return absl::OkStatus();
}

void RdmaPushLane::UpdateInterest() { stream_.SetInterest(true, busy()); }

void RdmaPushLane::OfferRoom() {
  pace_.reset();
  if (listener_ == nullptr || !stream_.open() || !has_room()) return;
  if (std::exchange(room_wanted_, false)) listener_->OnLaneWritable();
}

// The caller may be the listener, in the middle of something: it hears of it afterwards.
void RdmaPushLane::FailSoon(absl::Status status) {
  failure_ = loop_->RunAfter(0, [this, status = std::move(status)] { Fail(status); });
}

void RdmaPushLane::Fail(absl::Status status) {
  stream_.Close();
  if (writes_ != nullptr) writes_->Stop();
  pace_.reset();
  Unwatch();
  PushLane::Listener* listener = std::exchange(listener_, nullptr);
  if (listener != nullptr) listener->OnLaneFailed(Annotate(status, "the bulk lane broke"));
}

void RdmaPushLane::Unwatch() {
  for (const RdmaPushRail& rail : rails_) rail.link->OnBroken(nullptr);
}

}  // namespace faultline
