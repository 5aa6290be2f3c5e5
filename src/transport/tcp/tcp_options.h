// What can be chosen about TCP.
#ifndef FAULTLINE_TRANSPORT_TCP_TCP_OPTIONS_H_
#define FAULTLINE_TRANSPORT_TCP_TCP_OPTIONS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "runtime/loop.h"
#include "seams/compression.h"
#include "transport/tcp/tcp_uri.h"
#include "transport/tcp/tls_context.h"

namespace faultline {

struct TcpOptions {
  TcpUri uri;                                    // where to connect to, or to listen
  uint64_t bandwidth_bytes_per_second = 0;       // source, bulk lane only; 0: no limit
  Compression compression = Compression::kAuto;  // source, bulk lane only
  std::shared_ptr<const TlsContext> tls;         // of this side's role; null: plain connections
  // Destination: is told, in sentences for people, of connections that were turned away because of
  // how they are secured. Control thread; may be empty.
  std::function<void(const std::string& text)> on_notice;
  // Destination: how long a new connection may take to say who it is, TLS handshake included, and
  // how many may be doing so; one more turns the oldest of them out.
  int64_t hello_timeout_us = 5'000'000;
  size_t strangers_max = 32;
};

// The threads of one side.
//
// Teardown, for both transports: (1) Stop each lane on its own thread; (2) stop and join the demand
// and the bulk loop; (3) destroy the transport on the control thread, or on any one thread once the
// control loop has ended as well; (4) destroy the loops. Step 1 may be left out: lanes that were
// not stopped die silently with their loops.
struct TcpLoops {
  Loop* control = nullptr;
  Loop* demand = nullptr;
  Loop* bulk = nullptr;
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_TCP_TCP_OPTIONS_H_
