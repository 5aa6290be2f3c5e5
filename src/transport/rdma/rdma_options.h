// What can be chosen about RDMA.
#ifndef FAULTLINE_TRANSPORT_RDMA_RDMA_OPTIONS_H_
#define FAULTLINE_TRANSPORT_RDMA_RDMA_OPTIONS_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "transport/rdma/rdma_tuning.h"
#include "transport/tcp/tcp_options.h"

namespace faultline {

struct RdmaOptions {
  // Of the connections beside: address, secrets.
  TcpOptions tcp;
  // Where RDMA connects to, or listens; none: the same address and port. Port 0: the same port.
  std::optional<TcpUri> uri;
  // Of each further rail, at most kRdmaRailsMax - 1; addresses, not names. Port 0: the first one's.
  std::vector<TcpUri> rails;
  // The demand thread looks for a READ's completion before it sleeps, if READs are faster than
  // that.
  int64_t poll_us = 100;
  RdmaTuning tuning;
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_RDMA_OPTIONS_H_
