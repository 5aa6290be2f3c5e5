// The demand lane's destination end over RDMA.
#ifndef FAULTLINE_TRANSPORT_RDMA_RDMA_PAGE_READER_H_
#define FAULTLINE_TRANSPORT_RDMA_RDMA_PAGE_READER_H_

#include <deque>
#include <memory>
#include <vector>

#include "runtime/loop.h"
#include "seams/page_reader.h"
#include "seams/transport.h"
#include "transport/rdma/rdma_link.h"
#include "transport/rdma/rdma_work_queue.h"
#include "transport/rdma/readable_pages.h"
#include "transport/tcp/tcp_page_reader.h"

namespace faultline {

// Made and destroyed on the control thread, used on the demand thread; destroyed after Stop or
// after the demand loop has ended.
//
// A page that the source has said to be readable is read out of its memory, without the source; any
// other is asked for on the lane's connection, and so is every page as long as the queue pair is
// not there.
class RdmaPageReader : public PageReader, PageReader::Listener, RdmaWorkQueue::Listener {
 public:
  RdmaPageReader(Loop* demand, std::unique_ptr<TcpPageReader> connection,
                 std::shared_ptr<RdmaLink> link, WireCounter counter, const LaneTerms& terms,
                 int64_t poll_ns);

  void Start(PageReader::Listener* listener) override;
  void Read(std::span<const PageId> pages) override;
  void Stop() override;

 private:
  struct Wanted {
    PageId page;
    RemotePlace place;
  };

  // PageReader::Listener, of the lane's connection.
  void OnPage(PageId page, std::span<const std::byte> bytes,
              std::optional<uint64_t> digest) override;
  void OnReaderFailed(absl::Status status) override;
  // RdmaWorkQueue::Listener.
  void OnWorkDone(uint32_t slot) override;
  void OnWorkFailed(absl::Status status) override;

  absl::Status NoteReadable(const PageRun& run, const RemotePlace& place);
  // Whether pages can be read one-sidedly by now.
  bool CanRead();
  void PostWanted();
  void Fail(absl::Status status);

  // Constant after construction.
  Loop* const loop_;
  const MemoryLayout layout_;
  const bool integrity_;
  const std::shared_ptr<RdmaLink> link_;
  const WireCounter counter_;

  const std::unique_ptr<TcpPageReader> connection_;
  PageReader::Listener* listener_ = nullptr;
  ReadablePages readable_;
  RdmaWorkQueue reads_;
  std::deque<Wanted> wanted_;    // not posted yet
  std::vector<PageId> in_slot_;  // what each slot is read for
  std::vector<PageId> asked_;    // of one Read, kept for its memory
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_RDMA_PAGE_READER_H_
