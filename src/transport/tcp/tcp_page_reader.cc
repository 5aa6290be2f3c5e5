#include "transport/tcp/tcp_page_reader.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "protocol/codec.h"

namespace faultline {
namespace {

// Holds the answers to more faults than a guest of many CPUs raises at once.
constexpr size_t kStagingBytes = 256 * 1024;
// Then other descriptors of the demand loop get their turn.
constexpr int kPageReadsPerTurnMax = 8;

}  // namespace

TcpPageReader::TcpPageReader(Loop* demand, TcpConnection connection, WireCounter counter,
                             const LaneTerms& terms)
    : loop_(demand),
      layout_(terms.layout),
      digest_bytes_(terms.integrity ? kPageDigestBytes : 0),
      stream_(std::move(connection), std::move(counter)) {}

void TcpPageReader::Start(Listener* listener) {
  FAULTLINE_CHECK(loop_->IsOwnThread() && listener_ == nullptr);
  listener_ = listener;
  stream_.Watch(loop_, [this](FdReadiness ready) { OnReady(ready); });
  stream_.SetInterest(true, false);
}

void TcpPageReader::Stop() {
  FAULTLINE_CHECK(loop_->IsOwnThread());
  listener_ = nullptr;
  stream_.CloseGently();
}

void TcpPageReader::Read(std::span<const PageId> pages) {
  FAULTLINE_CHECK(loop_->IsOwnThread());
  if (!stream_.open()) return;
  size_t at = unsent_.size();
  unsent_.resize(at + pages.size() * kPageRequestBytes);
  for (const PageId& page : pages) {
    EncodePageRequest({page}, std::span(unsent_).subspan(at).first<kPageRequestBytes>(),
                      digest_bytes_ != 0);
    at += kPageRequestBytes;
  }
  Flush();
}

void TcpPageReader::Flush() {
  while (unsent_begin_ < unsent_.size()) {
    iovec part{unsent_.data() + unsent_begin_, unsent_.size() - unsent_begin_};
    Transfer transfer = stream_.Send({&part, 1});
    // A broken connection shows on the reading side too, after what still arrived.
    if (!transfer.status.ok()) break;
    if (transfer.bytes == 0) return stream_.SetInterest(true, true);
    unsent_begin_ += transfer.bytes;
  }
  unsent_.clear();
  unsent_begin_ = 0;
  stream_.SetInterest(true, false);
}

void TcpPageReader::OnReady(FdReadiness ready) {
  if (ready.writable) Flush();
  if (ready.readable) ReadSome();
}

void TcpPageReader::ReadSome() {
  if (!staging_.Reserve(kStagingBytes)) {
    return Fail(absl::ResourceExhaustedError("no memory for a buffer of incoming pages"));
  }
  for (int turn = 0; turn < kPageReadsPerTurnMax; ++turn) {
    if (large_bytes_ != 0) {
      if (!ReadLarge()) return;
      continue;
    }
    // What is left is less than one frame: to the front with it.
    std::memmove(staging_.data(), staging_.data() + staged_begin_, staged_end_ - staged_begin_);
    staged_end_ -= staged_begin_;
    staged_begin_ = 0;
    size_t room = kStagingBytes - staged_end_;
    iovec part{staging_.data() + staged_end_, room};
    Transfer transfer = stream_.Receive({&part, 1});
    if (!transfer.status.ok()) return Fail(transfer.status);
    staged_end_ += transfer.bytes;
    if (!DeliverStaged() || transfer.bytes < room) return;
  }
}

absl::StatusOr<PageFrame> TcpPageReader::DecodeFrame(std::span<const std::byte> staged) const {
  ASSIGN_OR_RETURN(PageFrame frame,
                   DecodePageFrame(staged.first<kPageFrameBytes>(), layout_, /*run_bytes_max=*/0,
                                   readable_noted_ ? RdmaFrames::kReadable : RdmaFrames::kRefused));
  if (!HasPages(frame.kind)) {
    return absl::InvalidArgumentError(
        "bad page frame from the peer: field 'kind' ends the demand lane or a round, which it has "
        "not");
  }
  if (frame.kind == PageFrameKind::kPacked) {
    return absl::InvalidArgumentError(
        "bad page frame from the peer: field 'kind' says packed pages, which the demand lane has "
        "not");
  }
  return frame;
}

bool TcpPageReader::DeliverStaged() {
  while (staged_end_ - staged_begin_ >= kPageFrameBytes) {
    std::span<const std::byte> staged(staging_.data() + staged_begin_, staged_end_ - staged_begin_);
    auto frame = DecodeFrame(staged);
    if (frame.ok() && frame->kind == PageFrameKind::kReadable) {
      if (staged.size() < kPageFrameBytes + kRemotePlaceBytes) return true;
      staged_begin_ += kPageFrameBytes + kRemotePlaceBytes;
      const RemotePlace place =
          DecodeRemotePlace(staged.subspan(kPageFrameBytes).first<kRemotePlaceBytes>());
      absl::Status noted = readable_noted_(frame->run, place);
      if (noted.ok()) continue;
      frame = noted;
    }
    if (!frame.ok()) {
      Fail(frame.status());
      return false;
    }
    PageId page{frame->run.region, frame->run.first};
    size_t bytes = digest_bytes_;
    if (frame->kind == PageFrameKind::kData) bytes += layout_[page.region].page_size_bytes;
    if (kPageFrameBytes + bytes > kStagingBytes) {
      staged_begin_ += kPageFrameBytes;
      return BeginLarge(page, bytes);
    }
    if (staged.size() < kPageFrameBytes + bytes) return true;
    staged_begin_ += kPageFrameBytes + bytes;
    if (!Deliver(page, staged.subspan(kPageFrameBytes, bytes))) return false;
  }
  return true;
}

bool TcpPageReader::Deliver(PageId page, std::span<const std::byte> bytes) {
  std::optional<uint64_t> digest;
  if (digest_bytes_ != 0) digest = DecodePageDigest(bytes.last<kPageDigestBytes>());
  listener_->OnPage(page, bytes.first(bytes.size() - digest_bytes_), digest);
  return listener_ != nullptr;
}

bool TcpPageReader::BeginLarge(PageId page, size_t bytes) {
  if (!large_.Reserve(bytes)) {
    Fail(absl::ResourceExhaustedError("no memory for an incoming huge page"));
    return false;
  }
  // Everything behind the header belongs to this page, which is larger than staging_.
  large_page_ = page;
  large_bytes_ = bytes;
  large_received_ = staged_end_ - staged_begin_;
  std::memcpy(large_.data(), staging_.data() + staged_begin_, large_received_);
  staged_begin_ = 0;
  staged_end_ = 0;
  return true;
}

bool TcpPageReader::ReadLarge() {
  size_t missing = large_bytes_ - large_received_;
  iovec part{large_.data() + large_received_, missing};
  Transfer transfer = stream_.Receive({&part, 1});
  if (!transfer.status.ok()) {
    Fail(transfer.status);
    return false;
  }
  large_received_ += transfer.bytes;
  if (transfer.bytes < missing) return transfer.bytes != 0;
  return Deliver(large_page_, {large_.data(), std::exchange(large_bytes_, 0)});
}

void TcpPageReader::Fail(absl::Status status) {
  stream_.Close();
  if (Listener* listener = std::exchange(listener_, nullptr)) {
    listener->OnReaderFailed(Annotate(status, "the demand lane broke"));
  }
}

}  // namespace faultline
