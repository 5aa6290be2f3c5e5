#include "transport/rdma/rdma_page_reader.h"

#include <fmt/format.h>

#include <utility>

#include "base/check.h"

namespace faultline {

RdmaPageReader::RdmaPageReader(Loop* demand, std::unique_ptr<TcpPageReader> connection,
                               std::shared_ptr<RdmaLink> link, WireCounter counter,
                               const LaneTerms& terms, int64_t poll_ns)
    : loop_(demand),
      layout_(terms.layout),
      integrity_(terms.integrity),
      link_(std::move(link)),
      counter_(std::move(counter)),
      connection_(std::move(connection)),
      readable_(terms.layout),
      reads_(demand, "an RDMA READ from the source", poll_ns, this) {}

void RdmaPageReader::Start(PageReader::Listener* listener) {
  FAULTLINE_CHECK(loop_->IsOwnThread() && listener_ == nullptr);
  listener_ = listener;
  link_->OnBroken([this](const absl::Status& status) { Fail(status); });
  connection_->AcceptReadable(
      [this](const PageRun& run, const RemotePlace& place) { return NoteReadable(run, place); });
  connection_->Start(this);
}

absl::Status RdmaPageReader::NoteReadable(const PageRun& run, const RemotePlace& place) {
  if (place.rail == 0 && place.more == 0) return readable_.Add(run, place);
  return absl::InvalidArgumentError(
      fmt::format("bad page frame from the peer: fields 'rail' and 'more' are {} and {}, and the "
                  "demand lane has one queue pair",
                  place.rail, place.more));
}

void RdmaPageReader::Stop() {
  FAULTLINE_CHECK(loop_->IsOwnThread());
  listener_ = nullptr;
  link_->OnBroken(nullptr);
  reads_.Detach();
  connection_->Stop();
}

bool RdmaPageReader::CanRead() {
  // The source's check sum of a page only the source can give.
  if (integrity_) return false;
  if (reads_.attached()) return true;
  RdmaConnection* connection = link_->connection();
  if (connection == nullptr) return false;
  reads_.Attach(connection, connection->reads_max());
  in_slot_.resize(connection->slots().count());
  return true;
}

void RdmaPageReader::Read(std::span<const PageId> pages) {
  FAULTLINE_CHECK(loop_->IsOwnThread());
  if (listener_ == nullptr) return;
  const bool can_read = CanRead();
  asked_.clear();
  for (const PageId& page : pages) {
    std::optional<RemotePlace> place;
    if (can_read &&
        layout_[page.region].page_size_bytes <= link_->connection()->slots().bytes_each()) {
      place = readable_.Find({page.region, page.index, 1});
    }
    if (place.has_value()) {
      wanted_.push_back({page, *place});
    } else {
      asked_.push_back(page);
    }
  }
  if (!asked_.empty()) connection_->Read(asked_);
  PostWanted();
  reads_.AwaitSoon();
}

void RdmaPageReader::PostWanted() {
  while (!wanted_.empty() && reads_.has_room() && !link_->connection()->slots().empty()) {
    const Wanted next = wanted_.front();
    wanted_.pop_front();
    const uint32_t slot = link_->connection()->slots().Take();
    in_slot_[slot] = next.page;
    const size_t bytes = layout_[next.page.region].page_size_bytes;
    if (absl::Status status = reads_.PostRead(slot, bytes, next.place); !status.ok()) {
      // The caller may be the listener itself, in the middle of something.
      return RdmaLink::Break(link_, loop_, status);
    }
  }
}

void RdmaPageReader::OnWorkDone(uint32_t slot) {
  const PageId page = in_slot_[slot];
  const size_t bytes = layout_[page.region].page_size_bytes;
  counter_->fetch_add(bytes, std::memory_order_relaxed);
  RdmaSlots& slots = link_->connection()->slots();
  listener_->OnPage(page, slots.bytes(slot).first(bytes), std::nullopt);
  slots.Return(slot);
  if (listener_ != nullptr) PostWanted();
}

void RdmaPageReader::OnPage(PageId page, std::span<const std::byte> bytes,
                            std::optional<uint64_t> digest) {
  listener_->OnPage(page, bytes, digest);
}

void RdmaPageReader::OnWorkFailed(absl::Status status) { Fail(std::move(status)); }
void RdmaPageReader::OnReaderFailed(absl::Status status) { Fail(std::move(status)); }

void RdmaPageReader::Fail(absl::Status status) {
  PageReader::Listener* listener = std::exchange(listener_, nullptr);
  if (listener == nullptr) return;
  link_->OnBroken(nullptr);
  reads_.Detach();
  connection_->Stop();
  listener->OnReaderFailed(Annotate(status, "the demand lane broke"));
}

}  // namespace faultline
