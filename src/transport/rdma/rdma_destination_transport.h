// The destination's end of a migration over RDMA.
#ifndef FAULTLINE_TRANSPORT_RDMA_RDMA_DESTINATION_TRANSPORT_H_
#define FAULTLINE_TRANSPORT_RDMA_RDMA_DESTINATION_TRANSPORT_H_

#include <list>
#include <memory>
#include <string>
#include <vector>

#include "transport/rdma/rdma_acceptor.h"
#include "transport/rdma/rdma_options.h"
#include "transport/rdma/rdma_rail_runs.h"
#include "transport/tcp/tcp_destination_transport.h"

namespace faultline {

// Control thread. Teardown: tcp_options.h. Everything but pages goes over TCP (docs/protocol.md);
// each lane's connection brings the token that its queue pairs' tokens are made of. The bulk lane
// has a queue pair on each rail that the source connects, the demand lane one, on any of them.
class RdmaDestinationTransport : public TcpDestinationTransport {
 public:
  RdmaDestinationTransport(RdmaOptions options, TcpLoops loops);
  ~RdmaDestinationTransport() override;

  absl::Status Listen(Arrived arrived) override;
  std::string address() const override;
  void ExpectLanes(const LaneTerms& terms, int64_t timeout_us, LanesOpen done) override;
  std::vector<RailFigures> rails() const override;
  std::string name() const override { return options().tls != nullptr ? "rdma+tls" : "rdma"; }

 private:
  SessionToken LaneToken(ConnectionRole role) override;
  std::unique_ptr<PageReader> MakeReader(TcpConnection connection) override;
  std::unique_ptr<PushReceiver> MakeReceiver(TcpConnection connection) override;
  absl::Status ListenOn(const SocketAddress& address);
  // Awaits the queue pair of a lane whose token is lane_token_, on one rail.
  void AwaitQueuePair(ConnectionRole role, size_t rail, const std::shared_ptr<RdmaLink>& link);

  const RdmaOptions rdma_options_;
  std::list<RdmaAcceptor> acceptors_;   // by rail
  std::vector<std::string> addresses_;  // by rail, once this listens
  const std::shared_ptr<RailBytes> rail_bytes_ = std::make_shared<RailBytes>();
  SessionToken lane_token_{};  // of the lane that joins just now
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_RDMA_DESTINATION_TRANSPORT_H_
