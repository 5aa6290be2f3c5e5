// With which rights the source's memory is registered.
#ifndef FAULTLINE_TRANSPORT_RDMA_PIN_ACCESS_H_
#define FAULTLINE_TRANSPORT_RDMA_PIN_ACCESS_H_

#include <infiniband/verbs.h>

#include "base/status.h"

namespace faultline {

// Tries on a file of its own what registering puts into this process's page tables, and gives the
// least rights (ibv_access_flags) with which that is what is pinned and nothing else: what
// RegisteredMemory relies on. `page_tables` is this process's /proc/self/pagemap.
// FailedPrecondition: with none of them. Any thread; under a millisecond.
absl::StatusOr<int> ChoosePinAccess(ibv_pd* domain, int page_tables);

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_PIN_ACCESS_H_
