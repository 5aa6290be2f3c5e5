// The destination's end of a migration over RDMA.
#ifndef FAULTLINE_TRANSPORT_RDMA_RDMA_DESTINATION_TRANSPORT_H_
#define FAULTLINE_TRANSPORT_RDMA_RDMA_DESTINATION_TRANSPORT_H_

#include <memory>
#include <string>

#include "transport/rdma/rdma_acceptor.h"
#include "transport/rdma/rdma_options.h"
#include "transport/tcp/tcp_destination_transport.h"

namespace faultline {

// Control thread. Teardown: tcp_options.h. Everything but pages goes over TCP (docs/protocol.md);
// each lane's connection brings the token of its queue pair.
class RdmaDestinationTransport : public TcpDestinationTransport {
 public:
  RdmaDestinationTransport(RdmaOptions options, TcpLoops loops);
  ~RdmaDestinationTransport() override;

  absl::Status Listen(Arrived arrived) override;
  std::string address() const override;
  void ExpectLanes(const LaneTerms& terms, int64_t timeout_us, LanesOpen done) override;
  std::string name() const override { return options().tls != nullptr ? "rdma+tls" : "rdma"; }

 private:
  SessionToken LaneToken(ConnectionRole role) override;
  std::unique_ptr<PageReader> MakeReader(TcpConnection connection) override;
  std::unique_ptr<PushReceiver> MakeReceiver(TcpConnection connection) override;
  // The queue pair of a lane whose token is lane_token_.
  std::shared_ptr<RdmaLink> AwaitQueuePair(ConnectionRole role);

  const RdmaOptions rdma_options_;
  RdmaAcceptor acceptor_;
  std::string rdma_address_;   // if it is another one than the connections'
  SessionToken lane_token_{};  // of the lane that joins just now
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_RDMA_DESTINATION_TRANSPORT_H_
