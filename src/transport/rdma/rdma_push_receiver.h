// The bulk lane's destination end over RDMA.
#ifndef FAULTLINE_TRANSPORT_RDMA_RDMA_PUSH_RECEIVER_H_
#define FAULTLINE_TRANSPORT_RDMA_RDMA_PUSH_RECEIVER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "pages/memory_layout.h"
#include "protocol/codec.h"
#include "runtime/loop.h"
#include "seams/push_lane.h"
#include "seams/transport.h"
#include "transport/rdma/rdma_link.h"
#include "transport/rdma/rdma_rail_landings.h"
#include "transport/rdma/rdma_rail_reads.h"
#include "transport/rdma/readable_frame.h"
#include "transport/tcp/page_buffer.h"
#include "transport/tcp/tcp_stream.h"

namespace faultline {

// Made and destroyed on the control thread, used on the bulk thread; destroyed after Stop or after
// the bulk loop has ended.
//
// Runs that the source names are read in their order, a few at a time on each rail, whenever there
// is a slot, or the source writes them into slots that are granted to it: so the destination paces
// the push. A run that comes with its bytes waits until those before it have been taken. While a
// run is held nothing is posted and nothing is read off the connection.
class RdmaPushReceiver : public PushReceiver, RdmaRailRuns::Listener {
 public:
  // `terms` are the migration's; the token is not looked at. `links` by rail.
  RdmaPushReceiver(Loop* bulk, TcpConnection connection,
                   const std::vector<std::shared_ptr<RdmaLink>>& links,
                   std::shared_ptr<RailBytes> rail_bytes, WireCounter counter,
                   const LaneTerms& terms);

  void Start(PushReceiver::Listener* listener) override;
  void Resume() override;
  void Stop() override;

 private:
  // RdmaRailRuns::Listener.
  void OnRunWhole() override { Advance(); }
  void OnRunsFailed(absl::Status status) override { Fail(std::move(status)); }

  void OnReady(FdReadiness ready);
  // Does what can be done: offers what is whole, posts READs, reads the connection.
  void Advance();
  // Offers the named runs that are whole; false: held, failed or stopped.
  bool OfferNamed(RdmaRailRuns* runs);
  bool PostReads();
  // One recv into the frame or the run under way; false: nothing came, or it failed or stopped.
  bool ReadConnection();
  // Acts on a whole frame head; false: failed.
  bool BeginFrame();
  // The frame says where pages can be read. Ok: it is whole and acted on, or more is to come.
  absl::Status TakeReadable(const PageRun& run);
  // The same of what the source writes.
  absl::Status TakeWritten(const PageRun& run);
  // The head has come whole.
  void EndHead();
  // Acts on the frame under way, if all of it has come and nothing is before it; false: not yet,
  // or held, failed, stopped.
  bool FinishFrame();
  void SendAnswers();
  void UpdateInterest();
  void Fail(absl::Status status);

  bool is_idle() const { return reads_.idle() && landings_.idle(); }
  bool frame_is_whole() const { return frame_.has_value() && wire_received_ == wire_bytes_; }
  uint64_t BytesOf(const PageRun& run) const {
    return run.count * layout_[run.region].page_size_bytes;
  }

  // Constant after construction.
  Loop* const loop_;
  const MemoryLayout layout_;
  const size_t digest_bytes_;
  const WireCounter counter_;

  TcpStream stream_;
  PushReceiver::Listener* listener_ = nullptr;
  RdmaRailReads reads_;
  RdmaRailLandings landings_;

  // The frame under way.
  std::array<std::byte, kReadableFrameBytesMax> head_;
  size_t head_received_ = 0;
  size_t head_bytes_ = kPageFrameBytes;  // that are known to be needed
  std::optional<PageFrame> frame_;       // decoded: its bytes follow
  PageBuffer buffer_;
  size_t wire_bytes_ = 0;  // of the run's bytes and check sum
  size_t wire_received_ = 0;

  bool advancing_ = false;
  bool held_ = false;
  bool finished_ = false;
  std::vector<std::byte> answers_;  // not sent yet: of runs that were taken, and grants
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_RDMA_PUSH_RECEIVER_H_
