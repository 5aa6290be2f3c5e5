// One queue pair, from its making to its end, with what it reads into.
#ifndef FAULTLINE_TRANSPORT_RDMA_RDMA_CONNECTION_H_
#define FAULTLINE_TRANSPORT_RDMA_RDMA_CONNECTION_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/status.h"
#include "pages/memory_layout.h"
#include "transport/rdma/rdma_domain.h"
#include "transport/rdma/rdma_slots.h"
#include "transport/rdma/verbs_handles.h"

namespace faultline {

// Made and destroyed on the control thread; in between the lane's thread uses what it needs of it.
// A queue pair that has failed stays failed: a new connection is made.
class RdmaConnection {
 public:
  // `id` is bound to `domain`'s device. `reads_max`: RDMA READs that this end will have under way
  // (0 at the source, whose end posts nothing).
  static absl::StatusOr<std::unique_ptr<RdmaConnection>> Make(RdmaId id,
                                                              std::shared_ptr<RdmaDomain> domain,
                                                              uint32_t reads_max);

  rdma_cm_id* id() const { return id_.get(); }
  RdmaDomain& domain() const { return *domain_; }
  uint32_t reads_max() const { return reads_max_; }
  ibv_cq* queue() const { return queue_.get(); }
  ibv_comp_channel* channel() const { return channel_.get(); }
  ibv_qp* queue_pair() const { return id_->qp; }

  // Where READs land; before the connection is used.
  absl::Status MakeSlots(size_t count, size_t bytes_each);
  RdmaSlots& slots() { return *slots_; }

  // Ends what is under way; the device writes nothing into the slots any more once this has
  // returned and the queue is drained. Any thread.
  void Break();

 private:
  RdmaConnection(std::shared_ptr<RdmaDomain> domain, uint32_t reads_max)
      : domain_(std::move(domain)), reads_max_(reads_max) {}

  // In the order in which they may go, the last first.
  const std::shared_ptr<RdmaDomain> domain_;
  const uint32_t reads_max_;
  std::unique_ptr<RdmaSlots> slots_;
  VerbsChannel channel_;
  VerbsQueue queue_;
  RdmaId id_;
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_RDMA_CONNECTION_H_
