// What is under way on one queue pair, and its completions.
#ifndef FAULTLINE_TRANSPORT_RDMA_RDMA_WORK_QUEUE_H_
#define FAULTLINE_TRANSPORT_RDMA_RDMA_WORK_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "base/status.h"
#include "protocol/messages.h"
#include "runtime/loop.h"
#include "transport/rdma/rdma_connection.h"

namespace faultline {

// The lane's thread.
//
// After posting its user calls AwaitSoon. Once the caller has done its work the queue looks for
// completions without sleeping, for about as long as one has taken of late, and only if that is not
// longer than `poll_ns_max`. If work is under way then, the queue is armed and looked through
// once more, since what completed before makes no event; the completion channel wakes the loop for
// the others.
class RdmaWorkQueue {
 public:
  class Listener {
   public:
    virtual ~Listener() = default;
    // What was posted with `id` is done, in the order of posting. May post and call Detach.
    virtual void OnWorkDone(uint32_t id) = 0;
    // Nothing completes any more.
    virtual void OnWorkFailed(absl::Status status) = 0;
  };

  // `what` names the work in errors: "an RDMA READ from the source".
  RdmaWorkQueue(Loop* loop, const char* what, int64_t poll_ns_max, Listener* listener)
      : loop_(loop), what_(what), poll_ns_max_(poll_ns_max), listener_(listener) {}

  // Begins to use `connection`, which outlives Detach, for so much work at a time.
  void Attach(RdmaConnection* connection, uint32_t under_way_max);
  bool attached() const { return connection_ != nullptr; }
  // Whether one more may be posted now.
  bool has_room() const { return attached() && under_way_ < under_way_max_; }
  uint32_t under_way() const { return under_way_; }

  // There must be room for each that is posted. None of them calls the listener.
  // Reads `bytes` from `place` into `slot`, which is its id.
  absl::Status PostRead(uint32_t slot, size_t bytes, const RemotePlace& place);
  // Writes this process's `bytes`, registered as `local_key`, to the slot that is granted, whose
  // number is its id, and sends nothing behind them: so the peer hears that they have been placed.
  absl::Status PostWrite(std::span<const std::byte> bytes, uint32_t local_key,
                         const WriteGrant& grant);
  // Awaits what the peer sends behind a WRITE. Its id is 0.
  absl::Status PostReceive();
  // If something is under way: the listener hears of what completes, but not before this returns.
  void AwaitSoon();
  // Nothing calls the listener after this returns.
  void Detach();

 private:
  void Count();
  void AwaitCompletions();
  void OnChannelReadable();
  // Gives out what has completed; false: failed or detached.
  bool Drain();
  // If something is under way: makes the channel tell of it.
  void ArmIfNeeded();
  void Fail(absl::Status status);

  Loop* const loop_;
  const char* const what_;
  const int64_t poll_ns_max_;
  Listener* const listener_;
  RdmaConnection* connection_ = nullptr;
  std::unique_ptr<FdWatch> watch_;
  std::shared_ptr<const bool> attachment_;  // what is posted to the loop ends with it
  bool awaited_soon_ = false;
  uint32_t under_way_max_ = 0;
  uint32_t under_way_ = 0;
  int64_t first_posted_ns_ = 0;  // since nothing was under way
  int64_t typical_ns_ = 20'000;  // that one takes alone
  bool armed_ = false;
  unsigned events_unacknowledged_ = 0;
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_RDMA_WORK_QUEUE_H_
