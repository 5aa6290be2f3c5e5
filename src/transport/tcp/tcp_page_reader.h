// The demand lane's destination end over TCP.
#ifndef FAULTLINE_TRANSPORT_TCP_TCP_PAGE_READER_H_
#define FAULTLINE_TRANSPORT_TCP_TCP_PAGE_READER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "pages/memory_layout.h"
#include "protocol/messages.h"
#include "runtime/loop.h"
#include "seams/page_reader.h"
#include "seams/transport.h"
#include "transport/tcp/page_buffer.h"
#include "transport/tcp/tcp_stream.h"

namespace faultline {

// Made and destroyed on the control thread, used on the demand thread; destroyed after Stop or
// after the demand loop has ended.
//
// One recv brings as many answers as there are; small pages are given out from that buffer as they
// lie. A page that is larger than the buffer is received straight into one of its own size.
class TcpPageReader : public PageReader {
 public:
  // `terms` are the migration's; the token is not looked at.
  TcpPageReader(Loop* demand, TcpConnection connection, WireCounter counter,
                const LaneTerms& terms);

  // Before Start: the source may say where pages can be read one-sidedly. `noted` hears of each
  // run, on the demand thread; it may fail the lane.
  using ReadableNoted = std::function<absl::Status(PageRun run, const RemotePlace& place)>;
  void AcceptReadable(ReadableNoted noted) { readable_noted_ = std::move(noted); }

  void Start(Listener* listener) override;
  void Read(std::span<const PageId> pages) override;
  void Stop() override;

 private:
  void OnReady(FdReadiness ready);
  void Flush();
  void ReadSome();
  // Gives out the whole frames in staging_; false: failed or stopped.
  bool DeliverStaged();
  // What `staged` begins with; an error for a kind that the demand lane has not.
  absl::StatusOr<PageFrame> DecodeFrame(std::span<const std::byte> staged) const;
  // Goes over to receiving `page` into large_, beginning with what staging_ has of it.
  bool BeginLarge(PageId page, size_t bytes);
  bool ReadLarge();
  // `bytes` are a page and its check sum; false: stopped.
  bool Deliver(PageId page, std::span<const std::byte> bytes);
  void Fail(absl::Status status);

  // Constant after construction.
  Loop* const loop_;
  const MemoryLayout layout_;
  const size_t digest_bytes_;  // after each page

  TcpStream stream_;
  Listener* listener_ = nullptr;
  ReadableNoted readable_noted_;   // empty: not accepted
  std::vector<std::byte> unsent_;  // requests that the socket did not take
  size_t unsent_begin_ = 0;

  PageBuffer staging_;
  size_t staged_begin_ = 0;  // [staged_begin_, staged_end_) has not been given out
  size_t staged_end_ = 0;

  PageBuffer large_;
  PageId large_page_;
  size_t large_bytes_ = 0;  // with its check sum; 0: no large page is on its way
  size_t large_received_ = 0;
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_TCP_TCP_PAGE_READER_H_
