// The bulk lane's source end over TCP.
#ifndef FAULTLINE_TRANSPORT_TCP_TCP_PUSH_LANE_H_
#define FAULTLINE_TRANSPORT_TCP_TCP_PUSH_LANE_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "protocol/codec.h"
#include "runtime/loop.h"
#include "seams/compression.h"
#include "seams/push_lane.h"
#include "transport/tcp/pack_policy.h"
#include "transport/tcp/queue_bound.h"
#include "transport/tcp/run_packer.h"
#include "transport/tcp/tcp_stream.h"
#include "transport/tcp/token_bucket.h"

namespace faultline {

// Bytes of pages in one run, at most (or one page).
inline constexpr uint64_t kTcpRunBytesMax = QueueBound::kBurstBytesMax;

// Made and destroyed on the control thread, used on the bulk thread; destroyed after Stop or after
// the bulk loop has ended.
//
// At most one run is in the lane's hands, sent in part; the kernel holds what the link's measured
// rate asks for (QueueBound), and runs are no longer than a part of that, on the wire. Stretches of
// zero pages go as a frame alone; where it pays (PackPolicy) what is left of a run is packed before
// it is sent. After Finish the peer may close: that is no
// failure then.
class TcpPushLane : public PushLane {
 public:
  struct Settings {
    uint64_t bandwidth_bytes_per_second = 0;  // paces what is sent; 0: no limit
    Compression compression = Compression::kAuto;
    bool integrity = false;  // a check sum goes after each frame's pages
  };
  TcpPushLane(Loop* bulk, TcpConnection connection, WireCounter counter, const Settings& settings);

  void Start(const SourceMemory* memory, Listener* listener) override;
  uint64_t run_bytes_max() const override {
    return policy_.RunBytes(bound_.burst_bytes(), kTcpRunBytesMax);
  }
  bool TryPush(PageRun run) override;
  bool TryMark(PageFrameKind mark, uint32_t round) override;
  void Finish() override;
  uint64_t bytes_sent() const override { return bytes_sent_.load(std::memory_order_relaxed); }
  void Stop() override;
  PackedBytes bytes_packed() const;  // any thread

 private:
  void OnReady(FdReadiness ready);
  // Whether a run or a mark can be begun; if not, OnLaneWritable follows.
  bool HasRoom();
  void BeginFinish();
  // Packs `data`, the bytes that follow `frame`, if that is worth it: what follows it then.
  std::span<const std::byte> PackIfWorth(std::span<const std::byte> data, PageFrame* frame);
  std::span<const std::byte> Pack(PackAlgorithm algorithm, std::span<const std::byte> data);
  // The next frame of the run under way, a stretch of it.
  void BeginStretch();
  void BeginFrame(const PageFrame& frame, std::span<const std::byte> data);
  // Begins to send what was begun. The listener hears of a failure afterwards.
  void SendBegun();
  // Reads `run` into buffer_: it is under way.
  absl::Status ReadRun(PageRun run);
  void FailSoon(absl::Status status);
  // Goes on with the run under way; false: the lane failed.
  bool SendSome();
  Transfer SendOnce();
  void NoteFlight();
  void UpdateInterest();
  void ReadNothing();
  void OfferRoom();
  void Fail(absl::Status status);

  bool frame_sent() const { return sent_ == kPageFrameBytes + data_.size() + digest_.size(); }
  bool busy() const { return !frame_sent() || !rest_.empty(); }

  // Constant after construction.
  Loop* const loop_;
  const bool integrity_;

  TcpStream stream_;
  TokenBucket bucket_;
  QueueBound bound_;
  PackPolicy policy_;
  RunPacker packer_;                // has the packed run that data_ is
  uint64_t send_buffer_bytes_ = 0;  // as it was set; 0: the kernel's own
  int64_t flight_noted_ns_ = 0;
  bool was_full_ = false;  // since then
  const SourceMemory* memory_ = nullptr;
  Listener* listener_ = nullptr;

  PageBuffer buffer_;  // the run under way, unpacked
  PageRun rest_;       // of it: no frame has it yet
  std::span<const std::byte> rest_data_;
  // The frame under way.
  std::array<std::byte, kPageFrameBytes> header_;
  std::span<const std::byte> data_;
  std::array<std::byte, kPageDigestBytes> digest_bytes_;
  std::span<const std::byte> digest_;  // in digest_bytes_, or empty
  size_t sent_ = kPageFrameBytes;
  bool finish_wanted_ = false;
  bool finish_begun_ = false;

  bool room_wanted_ = false;  // TryPush has said no
  std::unique_ptr<Timer> pace_;
  // Set while a send error waits to be told: never from inside TryPush or Finish.
  absl::Status send_error_;
  std::unique_ptr<Timer> send_error_timer_;

  std::atomic<uint64_t> bytes_sent_{0};
  std::atomic<uint64_t> packed_in_bytes_{0};
  std::atomic<uint64_t> packed_out_bytes_{0};
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_TCP_TCP_PUSH_LANE_H_
