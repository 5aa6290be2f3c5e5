#include "transport/rdma/rdma_transports.h"

#include <utility>

#include "transport/rdma/memory_lock_limit.h"
#include "transport/rdma/rdma_destination_transport.h"
#include "transport/rdma/rdma_source_transport.h"

namespace faultline {

absl::StatusOr<std::unique_ptr<SourceTransport>> MakeRdmaSourceTransport(RdmaOptions options,
                                                                         TcpLoops loops) {
  RaiseMemoryLockLimit();
  return std::make_unique<RdmaSourceTransport>(options, loops);
}

absl::StatusOr<std::unique_ptr<DestinationTransport>> MakeRdmaDestinationTransport(
    RdmaOptions options, TcpLoops loops) {
  RaiseMemoryLockLimit();
  return std::make_unique<RdmaDestinationTransport>(std::move(options), loops);
}

}  // namespace faultline
