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
#include "transport/rdma/rdma_limits.h"
#include "transport/rdma/rdma_rail_writes.h"
#include "transport/tcp/page_buffer.h"
#include "transport/tcp/tcp_stream.h"
#include "transport/tcp/token_bucket.h"

namespace faultline {

// Made and destroyed on the control thread, used on the bulk thread; destroyed after Stop or after
// the bulk loop has ended.
//
// What of a run lies registered on every rail is named only, one frame for each stretch, and the
// destination reads it when it has room on one of them; it says so by one byte for each frame. What
// is not registered, or only a few pages among such, is sent on the lane's connection, in the same
// order. After Finish the peer may close: that is no failure then.
//
// Where the queue pairs were made for it, what is registered is written in place of being read:
// into slots that the destination grants on the connection, as far as there are some.
class RdmaPushLane : public PushLane, RdmaRailWrites::Listener {
 public:
  struct Settings {
    uint64_t bandwidth_bytes_per_second = 0;  // 0: no limit
    bool integrity = false;                   // check sums: every run is sent
  };
  // `rails`: at least one.
  RdmaPushLane(Loop* bulk, TcpConnection connection, std::vector<RdmaPushRail> rails,
               WireCounter counter, const Settings& settings);

  void Start(const SourceMemory* memory, PushLane::Listener* listener) override;
  uint64_t run_bytes_max() const override { return kRdmaRunBytesMax; }
  bool TryPush(PageRun run) override;
  bool TryMark(PageFrameKind mark, uint32_t round) override;
  void Finish() override;
  uint64_t bytes_sent() const override { return bytes_sent_.load(std::memory_order_relaxed); }
  void Stop() override;

 private:
  // RdmaRailWrites::Listener.
  void OnWriteDone() override;
  void OnWritesFailed(absl::Status status) override { Fail(std::move(status)); }

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
  absl::Status ComposeNamed(const Piece& piece);
  absl::Status ComposeData(const PageRun& run);
  // Composes and sends what there is; false: it failed.
  bool GoOn();
  void Append(std::span<const std::byte> bytes);
  bool Send();
  void ReadAnswers();
  absl::Status TakeAnswers(std::span<const std::byte> bytes);
  void UpdateInterest();
  void OfferRoom();
  void FailSoon(absl::Status status);
  void Fail(absl::Status status);
  // Hears no more of queue pairs that break.
  void Unwatch();

  bool busy() const { return unsent_begin_ < unsent_.size(); }
  bool may_name() const { return writes_ != nullptr ? writes_->has_room() : named_ < named_max_; }
  // Runs that the destination is not known to have taken.
  uint32_t untaken() const { return writes_ != nullptr ? writes_->outstanding() : named_; }
  bool has_room() const { return !busy() && rest_.empty() && may_name(); }

  // Constant after construction.
  Loop* const loop_;
  const std::vector<RdmaPushRail> rails_;
  const uint32_t named_max_;
  const bool integrity_;
  const WireCounter counter_;

  TcpStream stream_;
  TokenBucket bucket_;
  std::vector<RailReadable> readable_;  // once it has started; empty: nothing is
  const SourceMemory* memory_ = nullptr;
  PushLane::Listener* listener_ = nullptr;
  PageBuffer buffer_;
  std::vector<std::byte> unsent_;
  size_t unsent_begin_ = 0;
  PageRun rest_;                            // of the run that was taken last: not composed yet
  uint32_t named_ = 0;                      // to be read, and not taken yet
  std::unique_ptr<RdmaRailWrites> writes_;  // once it has started; null: the destination reads
  bool room_wanted_ = false;
  bool finish_wanted_ = false;
  bool finish_composed_ = false;
  std::unique_ptr<Timer> pace_;
  std::unique_ptr<Timer> failure_;  // on its way to the listener
  std::atomic<uint64_t> bytes_sent_{0};
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_RDMA_PUSH_LANE_H_
