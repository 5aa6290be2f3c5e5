// The source's end of connecting one queue pair.
#ifndef FAULTLINE_TRANSPORT_RDMA_RDMA_DIALER_H_
#define FAULTLINE_TRANSPORT_RDMA_RDMA_DIALER_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>

#include "base/status.h"
#include "protocol/messages.h"
#include "transport/rdma/rdma_connection.h"
#include "transport/rdma/rdma_domain.h"
#include "transport/rdma/rdma_events.h"
#include "transport/rdma/rdma_tuning.h"
#include "transport/tcp/tcp_socket.h"

namespace faultline {

// One attempt, and the connection's events afterwards. Control thread. Destroying it gives the
// attempt up. The connection that it made goes before it.
class RdmaDialer : public RdmaEventListener {
 public:
  struct Target {
    std::optional<SocketAddress> local;  // none: as the route to the peer has it
    SocketAddress peer;
    ConnectionRole role = ConnectionRole::kDemand;
    SessionToken token{};
    RdmaTuning tuning;
  };
  // The domain of the device that the address led to.
  using DomainOf = std::function<absl::StatusOr<std::shared_ptr<RdmaDomain>>(const rdma_cm_id&)>;
  using Done = std::function<void(absl::StatusOr<std::unique_ptr<RdmaConnection>>)>;
  using Broken = std::function<void(absl::Status)>;

  // `done` runs once, later; `broken` after that, when the connection has ended.
  RdmaDialer(RdmaEvents* events, Target target, DomainOf domain_of, Done done, Broken broken);

  // Begins; an error where nothing was begun.
  absl::Status Start(int timeout_ms);

  const SocketAddress& peer() const { return target_.peer; }
  size_t peer_rails() const { return peer_rails_; }  // that it listens on, once it has accepted

 private:
  void OnRdmaEvent(const RdmaEvent& event) override;
  absl::Status SetOptions();
  absl::Status Connect();
  // The peer has accepted: the queue pair is brought up if it is the right one.
  absl::Status TakeAnswer(const RdmaEvent& event);
  void Fail(const absl::Status& status);
  // This end writes, and the peer reads nothing.
  bool writes() const {
    return target_.role == ConnectionRole::kBulk && target_.tuning.bulk == RdmaBulk::kWrite;
  }

  RdmaEvents* const events_;
  const Target target_;
  const DomainOf domain_of_;
  Done done_;
  const Broken broken_;
  int timeout_ms_ = 0;
  size_t peer_rails_ = 1;
  RdmaId id_;                                   // until the queue pair is made
  std::unique_ptr<RdmaConnection> connection_;  // until it is given out
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_RDMA_DIALER_H_
