// In place of the RDMA transport where rdma-core was not there when this was built.
#include "transport/rdma/rdma_devices.h"
#include "transport/rdma/rdma_transports.h"

namespace faultline {
namespace {

absl::Status NotBuiltIn() {
  return absl::UnimplementedError(
      "this faultline was built without RDMA: install libibverbs-dev and librdmacm-dev, build it "
      "again, or use tcp://");
}

}  // namespace

absl::StatusOr<std::unique_ptr<SourceTransport>> MakeRdmaSourceTransport(RdmaOptions, TcpLoops) {
  return NotBuiltIn();
}

absl::StatusOr<std::unique_ptr<DestinationTransport>> MakeRdmaDestinationTransport(RdmaOptions,
                                                                                   TcpLoops) {
  return NotBuiltIn();
}

absl::StatusOr<std::vector<RdmaPort>> ListRdmaPorts() { return NotBuiltIn(); }

}  // namespace faultline
