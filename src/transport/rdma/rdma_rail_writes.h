// The source's WRITEs of the push, on whichever rail has room.
#ifndef FAULTLINE_TRANSPORT_RDMA_RDMA_RAIL_WRITES_H_
#define FAULTLINE_TRANSPORT_RDMA_RDMA_RAIL_WRITES_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/status.h"
#include "protocol/codec.h"
#include "runtime/loop.h"
#include "transport/rdma/rail_places.h"
#include "transport/rdma/rdma_link.h"
#include "transport/rdma/rdma_work_queue.h"
#include "transport/rdma/registered_memory.h"
#include "transport/rdma/write_credits.h"

namespace faultline {

// A queue pair of the bulk lane's, and what can be read by it.
struct RdmaPushRail {
  uint16_t number = 0;
  std::shared_ptr<RdmaLink> link;
  std::shared_ptr<RegisteredMemory> registered;  // null: nothing, and on no other rail either
};

// The bulk thread. A rail has room if a slot is granted on it and fewer WRITEs are under way than
// may be: so a page that is demanded waits behind no more than it does where the push is read.
class RdmaRailWrites {
 public:
  class Listener {
   public:
    virtual ~Listener() = default;
    // There may be room again. May call everything here.
    virtual void OnWriteDone() = 0;
    // Nothing is written any more on some rail.
    virtual void OnWritesFailed(absl::Status status) = 0;
  };

  // `rails` have what they read registered; `slot_bytes` is what each slot of the peer's must hold.
  RdmaRailWrites(Loop* bulk, const std::vector<RdmaPushRail>& rails, uint64_t slot_bytes,
                 Listener* listener);

  // Begins to use the queue pairs. Appends what the destination is to be told.
  void Start(std::vector<std::byte>* frames);
  // Nothing calls the listener after this returns, and nothing is written.
  void Stop();

  // The next bytes that the destination has sent, cut anywhere. InvalidArgument names the field of
  // a grant that breaks the rules.
  absl::Status TakeGrants(std::span<const std::byte> bytes);
  bool has_room() const { return Choose().has_value(); }
  // Writes `bytes` that lie at `places`, one on each rail, by one of the rails. There must be room.
  absl::StatusOr<WrittenSlot> Write(const RailPlaces& places, size_t bytes);
  // The listener hears of what completes, but not before this returns.
  void AwaitSoon();
  // Runs that the destination is not known to have taken.
  uint32_t outstanding() const { return credits_.outstanding(); }

 private:
  struct Rail : RdmaWorkQueue::Listener {
    Rail(RdmaRailWrites* of, const RdmaPushRail& at, Loop* loop)
        : writes(of),
          rail(at),
          queue(loop, "an RDMA WRITE to the destination", /*poll_ns_max=*/0, this) {}
    void OnWorkDone(uint32_t) override { writes->listener_->OnWriteDone(); }
    void OnWorkFailed(absl::Status status) override {
      writes->listener_->OnWritesFailed(std::move(status));
    }

    RdmaRailWrites* const writes;
    const RdmaPushRail rail;
    RdmaWorkQueue queue;
    uint64_t bytes_given = 0;
  };

  std::optional<size_t> Choose() const;

  Listener* const listener_;
  std::vector<std::unique_ptr<Rail>> rails_;
  WriteCredits credits_;
  // Of a grant that has not come whole.
  std::array<std::byte, kWriteGrantBytes> part_{};
  size_t part_bytes_ = 0;
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_RDMA_RAIL_WRITES_H_
