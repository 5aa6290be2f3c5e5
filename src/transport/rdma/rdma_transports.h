// Both ends of the RDMA transport, where it was built in.
#ifndef FAULTLINE_TRANSPORT_RDMA_RDMA_TRANSPORTS_H_
#define FAULTLINE_TRANSPORT_RDMA_RDMA_TRANSPORTS_H_

#include <memory>

#include "base/status.h"
#include "seams/transport.h"
#include "transport/rdma/rdma_options.h"

namespace faultline {

// Unimplemented: this program was built without rdma-core; the sentence says what mends it.
// Otherwise raises what this process may pin as far as it can, before any right is given up.
absl::StatusOr<std::unique_ptr<SourceTransport>> MakeRdmaSourceTransport(RdmaOptions options,
                                                                         TcpLoops loops);
absl::StatusOr<std::unique_ptr<DestinationTransport>> MakeRdmaDestinationTransport(
    RdmaOptions options, TcpLoops loops);

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_RDMA_TRANSPORTS_H_
