#include "transport/tcp/tcp_page_exporter.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/zero_bytes.h"

namespace faultline {

TcpPageExporter::TcpPageExporter(Loop* demand, TcpConnection connection, WireCounter counter,
                                 const LaneTerms& terms)
    : loop_(demand),
      layout_(terms.layout),
      digest_bytes_(terms.integrity ? kPageDigestBytes : 0),
      stream_(std::move(connection), std::move(counter)),
      queue_(kAnswersQueuedMax) {}

void TcpPageExporter::Start(const SourceMemory* memory, Listener* listener) {
  FAULTLINE_CHECK(loop_->IsOwnThread() && listener_ == nullptr);
  memory_ = memory;
  listener_ = listener;
  stream_.Watch(loop_, [this](FdReadiness ready) { OnReady(ready); });
  stream_.SetInterest(true, !first_.empty());
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
  if (room == 0) return stream_.SetInterest(false, true);
  iovec part{requests_.data() + request_bytes_, room * kPageRequestBytes - request_bytes_};
  Transfer transfer = stream_.Receive({&part, 1});
  if (!transfer.status.ok()) return Fail(transfer.status);
  request_bytes_ += transfer.bytes;

  size_t count = request_bytes_ / kPageRequestBytes;
  size_t first = queue_begin_ + queue_count_;
  for (size_t i = 0; i < count; ++i) {
    auto request = DecodePageRequest(
        std::span(requests_).subspan(i * kPageRequestBytes).first<kPageRequestBytes>(), layout_,
        digest_bytes_ != 0);
    if (!request.ok()) return Fail(request.status());
    queue_[(first + i) % kAnswersQueuedMax] = {.page = request->page};
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

size_t TcpPageExporter::AnswerBytes(const Answer& answer) const {
  const size_t page_bytes = answer.is_zero ? 0 : layout_[answer.page.region].page_size_bytes;
  return kPageFrameBytes + page_bytes + digest_bytes_;
}

bool TcpPageExporter::SendFirstFrames() {
  while (first_sent_ < first_.size()) {
    iovec part{first_.data() + first_sent_, first_.size() - first_sent_};
    Transfer transfer = stream_.Send({&part, 1});
    if (!transfer.status.ok()) {
      Fail(transfer.status);
      return false;
    }
    if (transfer.bytes == 0) {
      stream_.SetInterest(queue_count_ < kAnswersQueuedMax, true);
      return false;
    }
    first_sent_ += transfer.bytes;
  }
  first_ = {};
  first_sent_ = 0;
  return true;
}

bool TcpPageExporter::SendAnswers() {
  if (!first_.empty() && !SendFirstFrames()) return stream_.open();
  while (queue_count_ > 0) {
    absl::StatusOr<size_t> composed = Compose();
    if (!composed.ok()) {
      Fail(composed.status());
      return false;
    }
    iovec part{staging_.data(), *composed};
    Transfer transfer = stream_.Send({&part, 1});
    if (!transfer.status.ok()) {
      Fail(transfer.status);
      return false;
    }
    Advance(transfer.bytes);
    if (transfer.bytes < *composed) {
      stream_.SetInterest(queue_count_ < kAnswersQueuedMax, true);
      return true;
    }
  }
  stream_.SetInterest(queue_count_ < kAnswersQueuedMax, false);
  return true;
}

absl::StatusOr<size_t> TcpPageExporter::Compose() {
  if (!staging_.Reserve(kSendBytesMax)) {
    return absl::ResourceExhaustedError("no memory for a buffer of outgoing pages");
  }
  std::span<std::byte> room(staging_.data(), kSendBytesMax);
  size_t skip = front_sent_;
  for (size_t i = 0; i < std::min(queue_count_, kAnswersPerSendMax); ++i) {
    Answer& answer = QueueAt(i);
    if (i > 0 && AnswerBytes(answer) > room.size()) break;
    ASSIGN_OR_RETURN(const size_t composed, ComposeAnswer(&answer, skip, room));
    room = room.subspan(composed);
    if (skip + composed < AnswerBytes(answer)) break;  // the rest: next time
    skip = 0;
  }
  return kSendBytesMax - room.size();
}

absl::StatusOr<size_t> TcpPageExporter::ComposeAnswer(Answer* answer, size_t skip,
                                                      std::span<std::byte> out) {
  const PageRun run{answer->page.region, answer->page.index, 1};
  const uint64_t page_bytes = layout_[run.region].page_size_bytes;
  const size_t header_bytes = kPageFrameBytes - std::min(skip, kPageFrameBytes);
  size_t data_bytes = 0;
  if (!answer->is_zero) {
    const uint64_t offset = std::min<uint64_t>(skip - std::min(skip, kPageFrameBytes), page_bytes);
    data_bytes = std::min<uint64_t>(page_bytes - offset, out.size() - header_bytes - digest_bytes_);
    std::span<std::byte> data = out.subspan(header_bytes, data_bytes);
    RETURN_IF_ERROR(memory_->Read(run.region, run.first * page_bytes + offset, data));
    // Also what the guest never touched: the allocation map may not be there yet.
    answer->is_zero = skip == 0 && data_bytes == page_bytes && IsZero(data);
    if (answer->is_zero) data_bytes = 0;
    if (digest_bytes_ != 0) Digest(answer, offset, data.first(data_bytes));
  }
  std::array<std::byte, kPageFrameBytes> header;
  EncodePageFrame({answer->is_zero ? PageFrameKind::kZero : PageFrameKind::kData, run}, header);
  std::copy(header.end() - static_cast<ptrdiff_t>(header_bytes), header.end(), out.begin());
  const size_t composed = header_bytes + data_bytes;
  const size_t left = AnswerBytes(*answer) - skip - composed;
  if (left > digest_bytes_) return composed;  // more of the page is to come
  std::array<std::byte, kPageDigestBytes> digest;
  EncodePageDigest(answer->digest.value_or(0), digest);
  std::copy(digest.end() - static_cast<ptrdiff_t>(left), digest.end(),
            out.begin() + static_cast<ptrdiff_t>(composed));
  return composed + left;
}

void TcpPageExporter::Digest(Answer* answer, uint64_t offset, std::span<const std::byte> data) {
  const PageRun run{answer->page.region, answer->page.index, 1};
  const uint64_t page_bytes = layout_[run.region].page_size_bytes;
  if (answer->is_zero || data.size() == page_bytes) {
    answer->digest = DigestOfRun(run, data);
  } else if (offset == 0) {
    answer->digest.reset();
    digester_.Begin();
  }
  if (answer->digest.has_value()) return;
  // What was not sent the first time is read again, and has been added.
  const uint64_t added = digester_.bytes() - offset;
  if (added < data.size()) digester_.Add(data.subspan(added));
  if (digester_.bytes() == page_bytes) answer->digest = digester_.End(run);
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
