// What can be chosen about RDMA.
#ifndef FAULTLINE_TRANSPORT_RDMA_RDMA_OPTIONS_H_
#define FAULTLINE_TRANSPORT_RDMA_RDMA_OPTIONS_H_

#include <cstdint>
#include <functional>
#include <string>

#include "transport/tcp/tcp_options.h"

namespace faultline {

struct RdmaOptions {
  // Of the connections beside: address, secrets. RDMA connects to the same address and port.
  TcpOptions tcp;
  // The demand thread looks for a READ's completion before it sleeps, if READs are faster than
  // that.
  int64_t poll_us = 100;
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_RDMA_OPTIONS_H_
