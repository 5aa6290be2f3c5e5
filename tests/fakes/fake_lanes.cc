#include "fakes/fake_lanes.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "base/check.h"
#include "base/zero_bytes.h"
#include "protocol/codec.h"

namespace faultline {
namespace {

FakeSocket::Bytes FrameOf(const PageFrame& frame) {
  FakeSocket::Bytes bytes(kPageFrameBytes);
  EncodePageFrame(frame, std::span(bytes).first<kPageFrameBytes>());
  return bytes;
}

// With integrity the check sum follows.
FakeSocket::Bytes FrameOf(const PageFrame& frame, std::span<const std::byte> data,
                          const LaneTerms& terms) {
  FakeSocket::Bytes bytes = FrameOf(frame);
  bytes.insert(bytes.end(), data.begin(), data.end());
  if (terms.integrity) {
    std::array<std::byte, kPageDigestBytes> digest;
    EncodePageDigest(DigestOfRun(frame.run, data), digest);
    bytes.insert(bytes.end(), digest.begin(), digest.end());
  }
  return bytes;
}

struct Chunk {
  PageFrame frame;
  std::span<const std::byte> data;
  std::optional<uint64_t> digest;
};

// A chunk is one frame with all its bytes; anything else is a peer's error.
absl::StatusOr<Chunk> ParseChunk(std::span<const std::byte> bytes, const LaneTerms& terms) {
  if (bytes.size() < kPageFrameBytes) return absl::InvalidArgumentError("half a page frame");
  Chunk chunk;
  ASSIGN_OR_RETURN(chunk.frame,
                   DecodePageFrame(bytes.first<kPageFrameBytes>(), terms.layout, kFakeRunBytesMax));
  const PageFrame& frame = chunk.frame;
  const uint64_t data_bytes = frame.kind == PageFrameKind::kData
                                  ? frame.run.count * terms.layout[frame.run.region].page_size_bytes
                                  : 0;
  const bool checked = terms.integrity && HasPages(frame.kind);
  if (bytes.size() != kPageFrameBytes + data_bytes + (checked ? kPageDigestBytes : 0)) {
    return absl::InvalidArgumentError("a page frame with the wrong number of bytes");
  }
  chunk.data = bytes.subspan(kPageFrameBytes, data_bytes);
  if (checked) chunk.digest = DecodePageDigest(bytes.last<kPageDigestBytes>());
  return chunk;
}

FakeSocket::Bytes BytesOf(const SourceMemory& memory, PageRun run) {
  const uint64_t page_bytes = memory.layout()[run.region].page_size_bytes;
  FakeSocket::Bytes bytes(run.count * page_bytes);
  FAULTLINE_CHECK(memory.Read(run.region, run.first * page_bytes, bytes).ok());
  return bytes;
}

}  // namespace

FakePageExporter::FakePageExporter(ManualExecutor* demand, std::unique_ptr<FakeSocket> socket,
                                   const LaneTerms& terms)
    : demand_(demand), terms_(terms), socket_(std::move(socket)) {}

void FakePageExporter::Start(const SourceMemory* memory, Listener* listener) {
  FAULTLINE_CHECK(demand_->IsCurrent() && listener_ == nullptr);
  memory_ = memory;
  listener_ = listener;
  socket_->Receive(
      demand_, [this](const FakeSocket::Bytes& bytes) { OnBytes(bytes); },
      [this](const absl::Status& status) { Fail(status); });
}

void FakePageExporter::Stop() {
  FAULTLINE_CHECK(demand_->IsCurrent());
  listener_ = nullptr;
  socket_.reset();
}

void FakePageExporter::OnBytes(const FakeSocket::Bytes& bytes) {
  std::span<const std::byte> left(bytes);
  while (left.size() >= kPageRequestBytes && listener_ != nullptr) {
    auto request =
        DecodePageRequest(left.first<kPageRequestBytes>(), terms_.layout, terms_.integrity);
    if (!request.ok()) return Fail(request.status());
    left = left.subspan(kPageRequestBytes);
    Answer(request->page);
  }
  if (!left.empty() && listener_ != nullptr) Fail(absl::InvalidArgumentError("half a request"));
}

void FakePageExporter::Answer(PageId page) {
  PageRun run{page.region, page.index, 1};
  FakeSocket::Bytes bytes = BytesOf(*memory_, run);
  if (std::any_of(bytes.begin(), bytes.end(), [](std::byte b) { return b != std::byte{0}; })) {
    socket_->Send(FrameOf({PageFrameKind::kData, run}, bytes, terms_));
  } else {
    socket_->Send(FrameOf({PageFrameKind::kZero, run}, {}, terms_));
  }
  socket_->network()->NotePages(run);
  listener_->OnDemand(page);
}

void FakePageExporter::Fail(const absl::Status& status) {
  socket_.reset();
  if (Listener* listener = std::exchange(listener_, nullptr)) listener->OnExporterFailed(status);
}

FakePageReader::FakePageReader(ManualExecutor* demand, std::unique_ptr<FakeSocket> socket,
                               const LaneTerms& terms)
    : demand_(demand), terms_(terms), socket_(std::move(socket)) {}

void FakePageReader::Start(Listener* listener) {
  FAULTLINE_CHECK(demand_->IsCurrent() && listener_ == nullptr);
  listener_ = listener;
  socket_->Receive(
      demand_, [this](const FakeSocket::Bytes& bytes) { OnBytes(bytes); },
      [this](const absl::Status& status) { Fail(status); });
}

void FakePageReader::Read(std::span<const PageId> pages) {
  FAULTLINE_CHECK(demand_->IsCurrent());
  if (socket_ == nullptr) return;
  FakeSocket::Bytes bytes(pages.size() * kPageRequestBytes);
  for (size_t i = 0; i < pages.size(); ++i) {
    EncodePageRequest({pages[i]},
                      std::span(bytes).subspan(i * kPageRequestBytes).first<kPageRequestBytes>(),
                      terms_.integrity);
  }
  socket_->Send(std::move(bytes));
}

void FakePageReader::Stop() {
  FAULTLINE_CHECK(demand_->IsCurrent());
  listener_ = nullptr;
  socket_.reset();
}

void FakePageReader::OnBytes(const FakeSocket::Bytes& bytes) {
  auto chunk = ParseChunk(bytes, terms_);
  if (!chunk.ok()) return Fail(chunk.status());
  const PageRun run = chunk->frame.run;
  if (!HasPages(chunk->frame.kind) || run.count != 1) {
    return Fail(absl::InvalidArgumentError("bad page frame from the peer: not one page"));
  }
  listener_->OnPage({run.region, run.first}, chunk->data, chunk->digest);
}

void FakePageReader::Fail(const absl::Status& status) {
  socket_.reset();
  if (Listener* listener = std::exchange(listener_, nullptr)) listener->OnReaderFailed(status);
}

FakePushLane::FakePushLane(ManualExecutor* bulk, std::unique_ptr<FakeSocket> socket,
                           const LaneTerms& terms)
    : bulk_(bulk), terms_(terms), socket_(std::move(socket)) {}

void FakePushLane::Start(const SourceMemory* memory, Listener* listener) {
  FAULTLINE_CHECK(bulk_->IsCurrent() && listener_ == nullptr);
  memory_ = memory;
  listener_ = listener;
  socket_->Receive(
      bulk_,
      [this](const FakeSocket::Bytes&) {
        Fail(absl::InvalidArgumentError("the peer sent something on the bulk lane"));
      },
      [this](const absl::Status& status) { Fail(status); });
  socket_->set_on_drained([this] { OnDrained(); });
}

bool FakePushLane::HasRoom() {
  if (socket_ == nullptr) return false;
  if (socket_->bytes_in_flight() < socket_->network()->push_window_bytes()) return true;
  writable_wanted_ = true;
  return false;
}

bool FakePushLane::TryMark(PageFrameKind mark, uint32_t round) {
  FAULTLINE_CHECK(bulk_->IsCurrent() && memory_ != nullptr && !finished_);
  if (!HasRoom()) return false;
  socket_->Send(FrameOf({mark, {0, round, 0}}));
  bytes_sent_ += kPageFrameBytes;
  return true;
}

bool FakePushLane::TryPush(PageRun run) {
  FAULTLINE_CHECK(bulk_->IsCurrent() && memory_ != nullptr && !run.empty());
  FAULTLINE_CHECK(run.count == 1 ||
                  run.count * memory_->layout()[run.region].page_size_bytes <= kFakeRunBytesMax);
  if (!HasRoom()) return false;
  const FakeSocket::Bytes data = BytesOf(*memory_, run);
  const std::span<const std::byte> bytes(data);
  const uint64_t page_bytes = data.size() / run.count;
  auto is_zero = [&](uint64_t page) {
    return IsZero(bytes.subspan(page * page_bytes, page_bytes));
  };
  // Pages of zeros travel as a frame alone, also between others.
  for (uint64_t begin = 0, end = 0; begin < run.count; begin = end) {
    const bool zero = is_zero(begin);
    for (end = begin + 1; end < run.count && is_zero(end) == zero;) ++end;
    const PageRun stretch{run.region, run.first + begin, end - begin};
    const auto sent = zero ? std::span<const std::byte>()
                           : bytes.subspan(begin * page_bytes, stretch.count * page_bytes);
    FakeSocket::Bytes frame =
        FrameOf({zero ? PageFrameKind::kZero : PageFrameKind::kData, stretch}, sent, terms_);
    bytes_sent_ += frame.size();
    socket_->Send(std::move(frame));
  }
  socket_->network()->NotePages(run);
  return true;
}

void FakePushLane::Finish() {
  FAULTLINE_CHECK(bulk_->IsCurrent());
  finished_ = true;
  if (socket_ == nullptr) return;
  socket_->Send(FrameOf({PageFrameKind::kFinished, {}}));
  bytes_sent_ += kPageFrameBytes;
}

void FakePushLane::Stop() {
  FAULTLINE_CHECK(bulk_->IsCurrent());
  listener_ = nullptr;
  socket_.reset();
}

void FakePushLane::OnDrained() {
  if (listener_ == nullptr || !writable_wanted_) return;
  if (socket_->bytes_in_flight() >= socket_->network()->push_window_bytes()) return;
  writable_wanted_ = false;
  listener_->OnLaneWritable();
}

void FakePushLane::Fail(const absl::Status& status) {
  // With everything taken, the peer may go.
  if (finished_ && socket_->bytes_in_flight() == 0) return socket_.reset();
  socket_.reset();
  if (Listener* listener = std::exchange(listener_, nullptr)) listener->OnLaneFailed(status);
}

FakePushReceiver::FakePushReceiver(ManualExecutor* bulk, std::unique_ptr<FakeSocket> socket,
                                   const LaneTerms& terms)
    : bulk_(bulk), terms_(terms), socket_(std::move(socket)) {}

void FakePushReceiver::Start(Listener* listener) {
  FAULTLINE_CHECK(bulk_->IsCurrent() && listener_ == nullptr);
  listener_ = listener;
  socket_->Receive(
      bulk_, [this](FakeSocket::Bytes bytes) { OnBytes(std::move(bytes)); },
      [this](const absl::Status& status) { Fail(status); });
}

void FakePushReceiver::Resume() {
  FAULTLINE_CHECK(bulk_->IsCurrent());
  if (listener_ != nullptr && !held_.empty()) Offer();
}

void FakePushReceiver::Stop() {
  FAULTLINE_CHECK(bulk_->IsCurrent());
  listener_ = nullptr;
  socket_.reset();
}

void FakePushReceiver::OnBytes(FakeSocket::Bytes bytes) {
  auto chunk = ParseChunk(bytes, terms_);
  if (!chunk.ok()) return Fail(chunk.status());
  if (chunk->frame.kind == PageFrameKind::kFinished) {
    finished_ = true;
    return listener_->OnPushFinished();
  }
  if (!HasPages(chunk->frame.kind)) {
    return listener_->OnRoundMark(chunk->frame.kind, static_cast<uint32_t>(chunk->frame.run.first));
  }
  if (chunk->frame.kind == PageFrameKind::kPacked) {
    return Fail(absl::InvalidArgumentError("bad page frame from the peer: packed"));
  }
  held_ = std::move(bytes);
  Offer();
}

void FakePushReceiver::Offer() {
  const Chunk chunk = ParseChunk(held_, terms_).value();
  bool taken = listener_->OnRun(chunk.frame.run, chunk.data, chunk.digest);
  if (taken) held_.clear();
  if (socket_ == nullptr) return;
  if (taken) {
    socket_->Resume();
  } else {
    socket_->Pause();
  }
}

void FakePushReceiver::Fail(const absl::Status& status) {
  socket_.reset();
  if (finished_) return;
  if (Listener* listener = std::exchange(listener_, nullptr)) listener->OnReceiverFailed(status);
}

}  // namespace faultline
