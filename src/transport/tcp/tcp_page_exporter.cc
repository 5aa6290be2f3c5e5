#include "transport/tcp/tcp_page_exporter.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace faultline {

TcpPageExporter::TcpPageExporter(Loop* demand, FileDescriptor fd, WireCounter counter,
                                 MemoryLayout layout)
    : loop_(demand),
      layout_(std::move(layout)),
      stream_(std::move(fd), std::move(counter)),
      queue_(kAnswersQueuedMax) {}

void TcpPageExporter::Start(const SourceMemory* memory, Listener* listener) {
  FAULTLINE_CHECK(loop_->IsOwnThread() && listener_ == nullptr);
  memory_ = memory;
  listener_ = listener;
  stream_.Watch(loop_, [this](FdReadiness ready) { OnReady(ready); });
  stream_.SetInterest(true, false);
}

void TcpPageExporter::UseMap(const AllocationMap* map) {
  FAULTLINE_CHECK(loop_->IsOwnThread() && map_ == nullptr && map->size() == layout_.size());
  map_ = map;
  if (listener_ != nullptr) SendAnswers();
}

void TcpPageExporter::Stop() {
  FAULTLINE_CHECK(loop_->IsOwnThread());
  listener_ = nullptr;
  stream_.CloseGently();
}

void TcpPageExporter::OnReady(FdReadiness ready) {
  if (ready.writable && !SendAnswers()) return;
  if (ready.readable) ReadRequests();
}

void TcpPageExporter::ReadRequests() {
  size_t room = std::min(kRequestsPerReadMax, kAnswersQueuedMax - queue_count_);
  if (room == 0)
    return stream_.SetInterest(false, queue_[queue_begin_].content != Content::kUnknown);
  iovec part{requests_.data() + request_bytes_, room * kPageRequestBytes - request_bytes_};
  Transfer transfer = stream_.Receive({&part, 1});
  if (!transfer.status.ok()) return Fail(transfer.status);
  request_bytes_ += transfer.bytes;

  size_t count = request_bytes_ / kPageRequestBytes;
  size_t first = queue_begin_ + queue_count_;
  for (size_t i = 0; i < count; ++i) {
    auto request = DecodePageRequest(
        std::span(requests_).subspan(i * kPageRequestBytes).first<kPageRequestBytes>(), layout_);
    if (!request.ok()) return Fail(request.status());
    queue_[(first + i) % kAnswersQueuedMax] = {request->page, ContentOf(request->page)};
  }
  queue_count_ += count;
  size_t used = count * kPageRequestBytes;
  std::memmove(requests_.data(), requests_.data() + used, request_bytes_ - used);
  request_bytes_ -= used;

  // The answers first: somebody's CPU stands still. The ring keeps the names until the next read.
  if (!SendAnswers()) return;
  for (size_t i = 0; i < count && listener_ != nullptr; ++i) {
    listener_->OnDemand(queue_[(first + i) % kAnswersQueuedMax].page);
  }
}

TcpPageExporter::Content TcpPageExporter::ContentOf(PageId page) const {
  std::optional<bool> data =
      map_ != nullptr ? (*map_)[page.region].Contains(page.index) : memory_->HoldsData(page);
  if (!data.has_value()) return Content::kUnknown;
  return *data ? Content::kData : Content::kZero;
}

size_t TcpPageExporter::AnswerBytes(const Answer& answer) const {
  return kPageFrameBytes +
         (answer.content == Content::kData ? layout_[answer.page.region].page_size_bytes : 0);
}

size_t TcpPageExporter::ResolveFront() {
  size_t count = std::min(queue_count_, kAnswersPerSendMax);
  for (size_t i = 0; i < count; ++i) {
    Answer& answer = QueueAt(i);
    if (answer.content == Content::kUnknown) answer.content = ContentOf(answer.page);
    if (answer.content == Content::kUnknown) return i;
  }
  return count;
}

bool TcpPageExporter::SendAnswers() {
  while (size_t answers = ResolveFront()) {
    std::array<std::array<std::byte, kPageFrameBytes>, kAnswersPerSendMax> headers;
    std::array<iovec, 2 * kAnswersPerSendMax> parts;
    size_t part_count = 0;
    size_t total = 0;
    size_t skip = front_sent_;
    for (size_t i = 0; i < answers; ++i) {
      const Answer& answer = QueueAt(i);
      PageRun run{answer.page.region, answer.page.index, 1};
      const bool is_zero = answer.content == Content::kZero;
      size_t bytes = AnswerBytes(answer);
      EncodePageFrame({is_zero ? PageFrameKind::kZero : PageFrameKind::kData, run}, headers[i]);
      if (skip < kPageFrameBytes) {
        parts[part_count++] = {headers[i].data() + skip, kPageFrameBytes - skip};
      }
      if (!is_zero) {
        std::span<const std::byte> data = memory_->View(run);
        size_t sent = skip > kPageFrameBytes ? skip - kPageFrameBytes : 0;
        parts[part_count++] = {const_cast<std::byte*>(data.data()) + sent, data.size() - sent};
      }
      total += bytes - skip;
      skip = 0;
    }
    Transfer transfer = stream_.Send(std::span(parts).first(part_count));
    if (!transfer.status.ok()) {
      Fail(transfer.status);
      return false;
    }
    Advance(transfer.bytes);
    if (transfer.bytes < total) {
      stream_.SetInterest(queue_count_ < kAnswersQueuedMax, true);
      return true;
    }
  }
  stream_.SetInterest(queue_count_ < kAnswersQueuedMax, false);
  return true;
}

void TcpPageExporter::Advance(size_t bytes) {
  bytes += front_sent_;
  while (queue_count_ > 0) {
    size_t answer = AnswerBytes(QueueAt(0));
    if (bytes < answer) break;
    bytes -= answer;
    queue_begin_ = (queue_begin_ + 1) % kAnswersQueuedMax;
    --queue_count_;
  }
  front_sent_ = bytes;
}

void TcpPageExporter::Fail(absl::Status status) {
  stream_.Close();
  if (Listener* listener = std::exchange(listener_, nullptr)) {
    listener->OnExporterFailed(Annotate(status, "the demand lane broke"));
  }
}

}  // namespace faultline
