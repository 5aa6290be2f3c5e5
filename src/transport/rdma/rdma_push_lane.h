// The bulk lane's source end over RDMA.
#ifndef FAULTLINE_TRANSPORT_RDMA_RDMA_PUSH_LANE_H_
#define FAULTLINE_TRANSPORT_RDMA_RDMA_PUSH_LANE_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "runtime/loop.h"
#include "seams/push_lane.h"
#include "transport/rdma/rdma_link.h"
#include "transport/rdma/registered_memory.h"
#include "transport/tcp/page_buffer.h"
#include "transport/tcp/tcp_stream.h"
#include "transport/tcp/token_bucket.h"

namespace faultline {

// Bytes of pages in one run, at most (or one page).
inline constexpr uint64_t kRdmaRunBytesMax = 256 * 1024;
// Runs that the source has named and the destination has not taken yet.
inline constexpr uint32_t kRdmaRunsNamedMax = 16;
// A larger page is sent, not read.
inline constexpr uint64_t kRdmaPageBytesMax = 2 * 1024 * 1024;

// Made and destroyed on the control thread, used on the bulk thread; destroyed after Stop or after
// the bulk loop has ended.
//
// What of a run lies registered is named only, one frame for each registration that it lies in, and
// the destination reads it when it has room; it says so by one byte for each frame. What is not
// registered, or only a few pages among such, is sent on the lane's connection, in the same order.
// After Finish the peer may close: that is no failure then.
class RdmaPushLane : public PushLane {
 public:
  struct Settings {
    uint64_t bandwidth_bytes_per_second = 0;  // 0: no limit
    bool integrity = false;                   // check sums: every run is sent
  };
  RdmaPushLane(Loop* bulk, TcpConnection connection, std::shared_ptr<RdmaLink> link,
               std::shared_ptr<RegisteredMemory> registered, WireCounter counter,
               const Settings& settings);

  void Start(const SourceMemory* memory, Listener* listener) override;
  uint64_t run_bytes_max() const override { return kRdmaRunBytesMax; }
  bool TryPush(PageRun run) override;
  bool TryMark(PageFrameKind mark, uint32_t round) override;
  void Finish() override;
  uint64_t bytes_sent() const override { return bytes_sent_.load(std::memory_order_relaxed); }
  void Stop() override;

 private:
  void OnReady(FdReadiness ready);
  // False: there is none now, and OfferRoom will tell.
  bool HasRoom();
  void AppendFrame(const PageFrame& frame);
  // The first pages of a run that go in one way; without a place: as bytes.
  struct Piece {
    PageRun run;
    std::optional<RemotePlace> place;
  };
  Piece FirstPiece(const PageRun& run) const;
  // Puts frames of rest_ into unsent_, as many as may be named.
  absl::Status Compose();
  absl::Status ComposeData(const PageRun& run);
  // Composes and sends what there is; false: it failed.
  bool GoOn();
  void Append(std::span<const std::byte> bytes);
  bool Send();
  void ReadTaken();
  void UpdateInterest();
  void OfferRoom();
  void FailSoon(absl::Status status);
  void Fail(absl::Status status);

  bool busy() const { return unsent_begin_ < unsent_.size(); }
  bool has_room() const { return !busy() && rest_.empty() && named_ < kRdmaRunsNamedMax; }

  // Constant after construction.
  Loop* const loop_;
  const std::shared_ptr<RdmaLink> link_;
  const std::shared_ptr<RegisteredMemory> registered_;
  const bool integrity_;

  TcpStream stream_;
  TokenBucket bucket_;
  const SourceMemory* memory_ = nullptr;
  Listener* listener_ = nullptr;
  PageBuffer buffer_;
  std::vector<std::byte> unsent_;
  size_t unsent_begin_ = 0;
  PageRun rest_;        // of the run that was taken last: not composed yet
  uint32_t named_ = 0;  // and not taken yet
  bool room_wanted_ = false;
  bool finish_wanted_ = false;
  bool finish_composed_ = false;
  std::unique_ptr<Timer> pace_;
  std::unique_ptr<Timer> failure_;  // on its way to the listener
  std::atomic<uint64_t> bytes_sent_{0};
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_RDMA_PUSH_LANE_H_
