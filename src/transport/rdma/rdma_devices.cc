#include "transport/rdma/rdma_devices.h"

#include <infiniband/verbs.h>

#include <memory>

namespace faultline {
namespace {

void AddPorts(ibv_device* device, std::vector<RdmaPort>* ports) {
  const std::unique_ptr<ibv_context, int (*)(ibv_context*)> context(ibv_open_device(device),
                                                                    &ibv_close_device);
  ibv_device_attr limits{};
  if (context == nullptr || ibv_query_device(context.get(), &limits) != 0) {
    ports->push_back({.device = ibv_get_device_name(device), .state = "cannot be opened"});
    return;
  }
  for (int number = 1; number <= limits.phys_port_cnt; ++number) {
    ibv_port_attr port{};
    if (ibv_query_port(context.get(), static_cast<uint8_t>(number), &port) != 0) continue;
    const bool is_ethernet = port.link_layer == IBV_LINK_LAYER_ETHERNET;
    ports->push_back({.device = ibv_get_device_name(device),
                      .port = number,
                      .active = port.state == IBV_PORT_ACTIVE,
                      .state = ibv_port_state_str(port.state),
                      .link_layer = is_ethernet ? "Ethernet" : "InfiniBand",
                      .mtu_bytes = uint32_t{128} << port.active_mtu,
                      .reads_max = limits.max_qp_rd_atom});
  }
}

}  // namespace

absl::StatusOr<std::vector<RdmaPort>> ListRdmaPorts() {
  std::vector<RdmaPort> ports;
  int count = 0;
  const std::unique_ptr<ibv_device*, void (*)(ibv_device**)> devices(ibv_get_device_list(&count),
                                                                     &ibv_free_device_list);
  for (int i = 0; devices != nullptr && i < count; ++i) AddPorts(devices.get()[i], &ports);
  return ports;
}

}  // namespace faultline
