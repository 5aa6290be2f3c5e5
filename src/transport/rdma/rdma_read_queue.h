// RDMA READs under way on one queue pair, and their completions.
#ifndef FAULTLINE_TRANSPORT_RDMA_RDMA_READ_QUEUE_H_
#define FAULTLINE_TRANSPORT_RDMA_RDMA_READ_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "base/status.h"
#include "protocol/messages.h"
#include "runtime/loop.h"
#include "transport/rdma/rdma_connection.h"

namespace faultline {

// The lane's thread.
//
// After posting its user calls AwaitSoon. Once the caller has done its work the queue looks for
// completions without sleeping, for about as long as one has taken of late, and only if that is not
// longer than `poll_ns_max`. If READs are under way then, the queue is armed and looked through
// once more, since what completed before makes no event; the completion channel wakes the loop for
// the others.
class RdmaReadQueue {
 public:
  class Listener {
   public:
    virtual ~Listener() = default;
    // The slot holds what was asked for; in the order of posting. May call Post and Detach.
    virtual void OnReadDone(uint32_t slot) = 0;
    // No READ completes any more.
    virtual void OnReadsFailed(absl::Status status) = 0;
  };

  RdmaReadQueue(Loop* loop, int64_t poll_ns_max, Listener* listener)
      : loop_(loop), poll_ns_max_(poll_ns_max), listener_(listener) {}

  // Begins to use `connection`, which outlives Detach.
  void Attach(RdmaConnection* connection);
  bool attached() const { return connection_ != nullptr; }
  // Whether one more may be posted now.
  bool has_room() const { return attached() && under_way_ < connection_->reads_max(); }
  uint32_t under_way() const { return under_way_; }

  // Reads `bytes` from `place` into `slot`. There must be room. Never calls the listener.
  absl::Status Post(uint32_t slot, size_t bytes, const RemotePlace& place);
  // If something is under way: the listener hears of what completes, but not before this returns.
  void AwaitSoon();
  // Nothing calls the listener after this returns.
  void Detach();

 private:
  void AwaitCompletions();
  void OnChannelReadable();
  // Gives out what has completed; false: failed or detached.
  bool Drain();
  // If something is under way: makes the channel tell of it.
  void ArmIfNeeded();
  void Fail(absl::Status status);

  Loop* const loop_;
  const int64_t poll_ns_max_;
  Listener* const listener_;
  RdmaConnection* connection_ = nullptr;
  std::unique_ptr<FdWatch> watch_;
  std::shared_ptr<const bool> attachment_;  // what is posted to the loop ends with it
  bool awaited_soon_ = false;
  uint32_t under_way_ = 0;
  int64_t first_posted_ns_ = 0;  // since nothing was under way
  int64_t typical_ns_ = 20'000;  // that one READ takes alone
  bool armed_ = false;
  unsigned events_unacknowledged_ = 0;
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_RDMA_READ_QUEUE_H_
