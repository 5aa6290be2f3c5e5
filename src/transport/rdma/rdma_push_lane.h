// The bulk lane's source end over RDMA.
#ifndef FAULTLINE_TRANSPORT_RDMA_RDMA_PUSH_LANE_H_
#define FAULTLINE_TRANSPORT_RDMA_RDMA_PUSH_LANE_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "runtime/loop.h"
#include "seams/push_lane.h"
#include "transport/rdma/rail_places.h"
#include "transport/rdma/rdma_link.h"
#include "transport/rdma/registered_memory.h"
#include "transport/tcp/page_buffer.h"
#include "transport/tcp/tcp_stream.h"
#include "transport/tcp/token_bucket.h"

namespace faultline {

// Bytes of pages in one run, at most (or one page).
inline constexpr uint64_t kRdmaRunBytesMax = 256 * 1024;
// Runs that the source has named and the destination has not taken yet, for each rail.
inline constexpr uint32_t kRdmaRunsNamedMax = 16;
// A larger page is sent, not read.
inline constexpr uint64_t kRdmaPageBytesMax = 2 * 1024 * 1024;

// A queue pair of the bulk lane's, and what can be read by it.
struct RdmaPushRail {
  uint16_t number = 0;
  std::shared_ptr<RdmaLink> link;
  std::shared_ptr<RegisteredMemory> registered;  // null: nothing, and on no other rail either
};

// Made and destroyed on the control thread, used on the bulk thread; destroyed after Stop or after
// the bulk loop has ended.
//
// What of a run lies registered on every rail is named only, one frame for each stretch, and the
// destination reads it when it has room on one of them; it says so by one byte for each frame. What
// is not registered, or only a few pages among such, is sent on the lane's connection, in the same
// order. After Finish the peer may close: that is no failure then.
class RdmaPushLane : public PushLane {
 public:
  struct Settings {
    uint64_t bandwidth_bytes_per_second = 0;  // 0: no limit
    bool integrity = false;                   // check sums: every run is sent
  };
  // `rails`: at least one.
  RdmaPushLane(Loop* bulk, TcpConnection connection, std::vector<RdmaPushRail> rails,
               WireCounter counter, const Settings& settings);

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
  // The first pages of a run that go in one way; without places: as bytes.
  struct Piece {
    PageRun run;
    RailPlaces places;
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
  // Hears no more of queue pairs that break.
  void Unwatch();

  bool busy() const { return unsent_begin_ < unsent_.size(); }
  bool may_name() const { return named_ < named_max_; }
  bool has_room() const { return !busy() && rest_.empty() && may_name(); }

  // Constant after construction.
  Loop* const loop_;
  const std::vector<RdmaPushRail> rails_;
  const uint32_t named_max_;
  const bool integrity_;

  TcpStream stream_;
  TokenBucket bucket_;
  std::vector<RailReadable> readable_;  // once it has started; empty: nothing is
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
