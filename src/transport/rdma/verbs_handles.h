// Ownership of what the verbs libraries give out.
#ifndef FAULTLINE_TRANSPORT_RDMA_VERBS_HANDLES_H_
#define FAULTLINE_TRANSPORT_RDMA_VERBS_HANDLES_H_

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

#include <memory>

namespace faultline {

struct RdmaIdDeleter {
  void operator()(rdma_cm_id* id) const { rdma_destroy_id(id); }
};
struct RdmaEventChannelDeleter {
  void operator()(rdma_event_channel* channel) const { rdma_destroy_event_channel(channel); }
};
struct VerbsDeleter {
  void operator()(ibv_pd* pd) const { ibv_dealloc_pd(pd); }
  void operator()(ibv_mr* mr) const { ibv_dereg_mr(mr); }
  void operator()(ibv_qp* qp) const { ibv_destroy_qp(qp); }
  void operator()(ibv_cq* cq) const { ibv_destroy_cq(cq); }
  void operator()(ibv_comp_channel* channel) const { ibv_destroy_comp_channel(channel); }
};

using RdmaId = std::unique_ptr<rdma_cm_id, RdmaIdDeleter>;
using RdmaEventChannel = std::unique_ptr<rdma_event_channel, RdmaEventChannelDeleter>;
using VerbsDomain = std::unique_ptr<ibv_pd, VerbsDeleter>;
using VerbsRegion = std::unique_ptr<ibv_mr, VerbsDeleter>;
using VerbsPair = std::unique_ptr<ibv_qp, VerbsDeleter>;
using VerbsQueue = std::unique_ptr<ibv_cq, VerbsDeleter>;
using VerbsChannel = std::unique_ptr<ibv_comp_channel, VerbsDeleter>;

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_VERBS_HANDLES_H_
