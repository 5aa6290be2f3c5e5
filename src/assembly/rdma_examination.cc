#include "assembly/rdma_examination.h"

#include <fmt/format.h>

#include "transport/rdma/rdma_devices.h"

namespace faultline {

RdmaFacts ExamineRdma() {
  RdmaFacts facts;
  absl::StatusOr<std::vector<RdmaPort>> ports = ListRdmaPorts();
  facts.built_in = ports.ok();
  if (!ports.ok()) return facts;
  for (const RdmaPort& port : *ports) {
    facts.any_active |= port.active;
    if (port.port == 0) {
      facts.ports.push_back(fmt::format("{}: {}", port.device, port.state));
      continue;
    }
    facts.ports.push_back(fmt::format("{} port {}: {}, {}, MTU {}, {} READs at a time", port.device,
                                      port.port, port.state, port.link_layer, port.mtu_bytes,
                                      port.reads_max));
  }
  return facts;
}

}  // namespace faultline
