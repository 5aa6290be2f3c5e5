// The bulk lane's destination end over TCP.
#ifndef FAULTLINE_TRANSPORT_TCP_TCP_PUSH_RECEIVER_H_
#define FAULTLINE_TRANSPORT_TCP_TCP_PUSH_RECEIVER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "pages/memory_layout.h"
#include "protocol/codec.h"
#include "runtime/loop.h"
#include "seams/push_lane.h"
#include "seams/transport.h"
#include "transport/tcp/page_buffer.h"
#include "transport/tcp/run_packer.h"
#include "transport/tcp/tcp_stream.h"

namespace faultline {

// Made and destroyed on the control thread, used on the bulk thread; destroyed after Stop or after
// the bulk loop has ended.
//
// A run is received straight into an aligned buffer, a packed one beside it and then unpacked into
// it; the same recv takes the next frame's header along. While a run is held nothing is read, and
// TCP's window makes the source wait.
class TcpPushReceiver : public PushReceiver {
 public:
  // `terms` are the migration's; the token is not looked at.
  TcpPushReceiver(Loop* bulk, TcpConnection connection, WireCounter counter,
                  const LaneTerms& terms);

  void Start(Listener* listener) override;
  void Resume() override;
  void Stop() override;

 private:
  bool packed() const { return algorithm_ != PackAlgorithm::kNone; }
  // Up to a few recvs, then the loop's other work has its turn.
  void ReadSome();
  void AwaitMore();
  // Acts on a whole header_; false: failed, finished or stopped.
  bool BeginFrame();
  // Acts on a run whose bytes have all come; false: held, failed or stopped.
  bool FinishRun();
  // Offers the run that buffer_ holds; false: held, failed or stopped.
  bool OfferRun();
  void Fail(absl::Status status);

  // Constant after construction.
  Loop* const loop_;
  const MemoryLayout layout_;
  const size_t digest_bytes_;  // after each frame's pages

  TcpStream stream_;
  Listener* listener_ = nullptr;
  std::array<std::byte, kPageFrameBytes> header_;  // of the frame after the current run
  size_t header_received_ = 0;
  size_t wake_bytes_ = 1;                           // the socket is readable when it holds so many
  PageRun run_;                                     // the current run
  size_t run_bytes_ = 0;                            // of the current run
  PackAlgorithm algorithm_ = PackAlgorithm::kNone;  // of the current run
  size_t wire_bytes_ = 0;  // of the current run as it comes, check sum included; 0 between runs
  size_t wire_received_ = 0;
  std::optional<uint64_t> digest_;  // of the current run, once it is whole
  bool held_ = false;
  bool finished_ = false;
  PageBuffer buffer_;
  PageBuffer packed_buffer_;
  RunUnpacker unpacker_;
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_TCP_TCP_PUSH_RECEIVER_H_
