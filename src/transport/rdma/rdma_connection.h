// One queue pair, from its making to its end, with the slots that pages land in.
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
#include "transport/rdma/rdma_tuning.h"
#include "transport/rdma/verbs_handles.h"

namespace faultline {

// What a queue pair is made for.
struct RdmaTerms {
  uint32_t reads_max = 0;      // RDMA READs that this end will have under way
  uint8_t reads_served = 0;    // and the peer's
  uint32_t writes_max = 0;     // RDMA WRITEs that this end will have under way, a SEND behind each
  uint32_t writes_served = 0;  // and the peer's
  uint32_t mtu_bytes_max = 0;  // as the peer wants it; 0: as it comes
};

// Made and destroyed on the control thread; in between the lane's thread uses what it needs of it.
// A queue pair that has failed stays failed: a new connection is made.
//
// The queue pair is brought up by hand and not by librdmacm, so that what RdmaTuning says holds.
class RdmaConnection {
 public:
  // `id` is bound to `domain`'s device; its queue pair is made, and not connected.
  static absl::StatusOr<std::unique_ptr<RdmaConnection>> Make(RdmaId id,
                                                              std::shared_ptr<RdmaDomain> domain,
                                                              const RdmaTerms& terms,
                                                              const RdmaTuning& tuning);

  // Once the peer's word is there (its request, or its answer): sends and receives from now on.
  absl::Status BringUp();
  // What rdma_connect and rdma_accept are to be told of the queue pair.
  rdma_conn_param parameters() const;
  // Of a packet; after BringUp.
  uint32_t mtu_bytes() const { return mtu_bytes_; }
  void set_mtu_bytes_max(uint32_t bytes) { terms_.mtu_bytes_max = bytes; }

  rdma_cm_id* id() const { return id_.get(); }
  RdmaDomain& domain() const { return *domain_; }
  uint32_t reads_max() const { return terms_.reads_max; }
  uint32_t writes_max() const { return terms_.writes_max; }
  uint32_t writes_served() const { return terms_.writes_served; }
  ibv_cq* queue() const { return queue_.get(); }
  ibv_comp_channel* channel() const { return channel_.get(); }
  ibv_qp* queue_pair() const { return pair_.get(); }

  // Where READs land, or the peer's WRITEs; before the connection is used.
  absl::Status MakeSlots(size_t count, size_t bytes_each);
  RdmaSlots& slots() { return *slots_; }

  // Ends what is under way; the device writes nothing into the slots any more once this has
  // returned and the queue is drained. Any thread.
  void Break();

 private:
  RdmaConnection(std::shared_ptr<RdmaDomain> domain, const RdmaTerms& terms,
                 const RdmaTuning& tuning)
      : domain_(std::move(domain)), tuning_(tuning), terms_(terms) {}
  absl::Status MakePair();
  // Into a state, with what the connection manager and the tuning say of it.
  absl::Status Enter(ibv_qp_state state);
  void Tune(ibv_qp_attr* attributes, int mask);

  // In the order in which they may go, the last first.
  const std::shared_ptr<RdmaDomain> domain_;
  const RdmaTuning tuning_;
  RdmaTerms terms_;
  uint32_t mtu_bytes_ = 0;
  std::unique_ptr<RdmaSlots> slots_;
  VerbsChannel channel_;
  VerbsQueue queue_;
  RdmaId id_;
  VerbsPair pair_;
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_RDMA_CONNECTION_H_
