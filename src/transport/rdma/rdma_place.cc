#include "transport/rdma/rdma_place.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <fstream>

namespace faultline {
namespace {

SocketAddress AddressOf(const in6_addr& gid) {
  SocketAddress address;
  if (IN6_IS_ADDR_V4MAPPED(&gid)) {
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    std::memcpy(&v4.sin_addr, gid.s6_addr + 12, sizeof(v4.sin_addr));
    std::memcpy(&address.storage, &v4, sizeof(v4));
    address.length = sizeof(v4);
  } else {
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    v6.sin6_addr = gid;
    std::memcpy(&address.storage, &v6, sizeof(v6));
    address.length = sizeof(v6);
  }
  return address;
}

}  // namespace

absl::StatusOr<std::vector<SocketAddress>> RdmaAddressesOf(TcpUri uri, const TcpUri& beside) {
  if (uri.port == 0) uri.port = beside.port;
  absl::StatusOr<std::vector<SocketAddress>> found = ResolveTcp(uri, /*numeric_only=*/true);
  if (found.ok()) return found;
  return Annotate(
      found.status(),
      fmt::format("rdma://{} takes an address, not a name, beside --control and as a further rail",
                  uri.host_port()));
}

absl::Status CheckPlace(const rdma_cm_id& id, const RdmaTuning& tuning) {
  if (tuning.device.empty() || id.verbs == nullptr) return absl::OkStatus();
  const std::string device = ibv_get_device_name(id.verbs->device);
  if (device == tuning.device && (tuning.port == 0 || id.port_num == tuning.port)) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(fmt::format(
      "the address leads to port {} of the RDMA device {}, and --rdma names port {} of {}: give an "
      "address of that one's (`ip address`, `rdma link`), or its gid=",
      id.port_num, device, std::max<int>(tuning.port, 1), tuning.device));
}

absl::Status CheckPort(const rdma_cm_id& id) {
  ibv_port_attr port{};
  if (int error = ibv_query_port(id.verbs, id.port_num, &port); error != 0) {
    return ErrnoStatus(error, fmt::format("ask for the state of port {}", id.port_num));
  }
  if (port.state == IBV_PORT_ACTIVE) return absl::OkStatus();
  return absl::UnavailableError(fmt::format("port {} of the RDMA device {} is down", id.port_num,
                                            ibv_get_device_name(id.verbs->device)));
}

absl::StatusOr<std::optional<SocketAddress>> AddressToUse(const RdmaTuning& tuning,
                                                          std::optional<SocketAddress> otherwise,
                                                          const std::string& sysfs) {
  if (!tuning.gid_index.has_value()) return otherwise;
  const std::string port = fmt::format("{}/class/infiniband/{}/ports/{}", sysfs, tuning.device,
                                       std::max<int>(tuning.port, 1));
  std::string link_layer;
  std::ifstream(port + "/link_layer") >> link_layer;
  if (link_layer == "InfiniBand") return otherwise;  // whose GIDs are no IP addresses
  const std::string path = fmt::format("{}/gids/{}", port, *tuning.gid_index);
  std::string text;
  std::ifstream(path) >> text;
  in6_addr gid{};
  if (inet_pton(AF_INET6, text.c_str(), &gid) != 1) {
    return absl::NotFoundError(
        fmt::format("--rdma: the device {} has no GID {} on port {} ({} cannot be read)",
                    tuning.device, *tuning.gid_index, std::max<int>(tuning.port, 1), path));
  }
  if (IN6_IS_ADDR_UNSPECIFIED(&gid) || IN6_IS_ADDR_LINKLOCAL(&gid)) {
    return absl::NotFoundError(
        fmt::format("--rdma: GID {} of {} is {}, which is no address to connect from; `rdma link` "
                    "and {}/class/infiniband/{}/ports show others",
                    *tuning.gid_index, tuning.device, text, sysfs, tuning.device));
  }
  return AddressOf(gid);
}

}  // namespace faultline
