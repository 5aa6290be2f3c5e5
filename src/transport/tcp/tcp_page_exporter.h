// The demand lane's source end over TCP.
#ifndef FAULTLINE_TRANSPORT_TCP_TCP_PAGE_EXPORTER_H_
#define FAULTLINE_TRANSPORT_TCP_TCP_PAGE_EXPORTER_H_

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "pages/memory_layout.h"
#include "pages/page_digest.h"
#include "protocol/codec.h"
#include "runtime/loop.h"
#include "seams/page_exporter.h"
#include "seams/transport.h"
#include "transport/tcp/page_buffer.h"
#include "transport/tcp/tcp_stream.h"

namespace faultline {

// Made and destroyed on the control thread, used on the demand thread; destroyed after Stop or
// after the demand loop has ended.
//
// The thread that reads a request answers it at once, out of the VM's memory. What the socket does
// not take waits as page names, never as bytes; when those are too many, requests are left unread.
class TcpPageExporter : public PageExporter {
 public:
  // `terms` are the migration's; the token is not looked at.
  TcpPageExporter(Loop* demand, TcpConnection connection, WireCounter counter,
                  const LaneTerms& terms);

  // Before Start: goes out before any answer. Whole frames.
  void SendFirst(std::vector<std::byte> frames) { first_ = std::move(frames); }

  void Start(const SourceMemory* memory, Listener* listener) override;
  void Stop() override;

 private:
  struct Answer {
    PageId page;
    bool is_zero = false;            // found out when it was read
    std::optional<uint64_t> digest;  // once all of it has been read
  };

  static constexpr size_t kRequestsPerReadMax = 1024;
  static constexpr size_t kAnswersQueuedMax = 8192;
  static constexpr size_t kAnswersPerSendMax = 64;
  // The answers of one send: 62 pages of 4 KiB, or a part of a huge one.
  static constexpr size_t kSendBytesMax = 256 * 1024;

  void OnReady(FdReadiness ready);
  // Takes what requests there are into the queue.
  void ReadRequests();
  // Sends what is left of first_; false: the lane failed, or the socket is full.
  bool SendFirstFrames();
  // Sends from the queue until it is empty or the socket is full; false: it failed.
  bool SendAnswers();
  // Puts the queue's first answers together in staging_, from where the last send ended; returns
  // how many bytes they are.
  absl::StatusOr<size_t> Compose();
  // The answer's bytes from `skip` on, as many as `out` takes; returns how many.
  absl::StatusOr<size_t> ComposeAnswer(Answer* answer, size_t skip, std::span<std::byte> out);
  // Adds the page's bytes from `offset` on to its check sum.
  void Digest(Answer* answer, uint64_t offset, std::span<const std::byte> data);
  // Drops `bytes` that were sent from the front of the queue.
  void Advance(size_t bytes);
  Answer& QueueAt(size_t number) { return queue_[(queue_begin_ + number) % kAnswersQueuedMax]; }
  size_t AnswerBytes(const Answer& answer) const;
  void Fail(absl::Status status);

  // Constant after construction.
  Loop* const loop_;
  const MemoryLayout layout_;
  const size_t digest_bytes_;  // after each page

  TcpStream stream_;
  const SourceMemory* memory_ = nullptr;
  Listener* listener_ = nullptr;

  std::vector<std::byte> first_;
  size_t first_sent_ = 0;

  std::array<std::byte, kRequestsPerReadMax * kPageRequestBytes> requests_;
  size_t request_bytes_ = 0;  // a request that came in part lies at the front of requests_

  std::vector<Answer> queue_;  // a ring of kAnswersQueuedMax
  size_t queue_begin_ = 0;
  size_t queue_count_ = 0;
  size_t front_sent_ = 0;  // bytes of the first answer, its header included
  PageBuffer staging_;
  RunDigester digester_;  // of a page that is read in parts: it is the first answer
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_TCP_TCP_PAGE_EXPORTER_H_
