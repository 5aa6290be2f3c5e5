// Somebody who connects to a destination's RDMA.
#ifndef FAULTLINE_TESTS_TRANSPORT_RDMA_CALLER_H_
#define FAULTLINE_TESTS_TRANSPORT_RDMA_CALLER_H_

#include <gtest/gtest.h>

#include <optional>

#include "transport/rdma/rdma_events.h"
#include "transport/rdma/rdma_greeting.h"
#include "transport/tcp/tcp_socket.h"

namespace faultline::contract {

// Calls a destination and shows it what the test says. The thread of `events`.
class Caller : public RdmaEventListener {
 public:
  Caller(RdmaEvents* events, SocketAddress peer, const RdmaGreeting& shown)
      : shown_(shown), id_(events->MakeId(this).value()) {
    EXPECT_EQ(rdma_resolve_addr(id_.get(), nullptr, reinterpret_cast<sockaddr*>(&peer.storage),
                                kTimeoutMs),
              0);
  }
  // How it ended, if it has.
  std::optional<rdma_cm_event_type> answer() const { return answer_; }

 private:
  static constexpr int kTimeoutMs = 5000;

  void OnRdmaEvent(const RdmaEvent& event) override {
    if (event.type == RDMA_CM_EVENT_ADDR_RESOLVED) {
      EXPECT_EQ(rdma_resolve_route(id_.get(), kTimeoutMs), 0);
    } else if (event.type == RDMA_CM_EVENT_ROUTE_RESOLVED) {
      rdma_conn_param parameters{};
      parameters.private_data = shown_.data();
      parameters.private_data_len = static_cast<uint8_t>(shown_.size());
      parameters.responder_resources = 1;
      parameters.qp_num = 1;  // nobody gets as far as using it
      EXPECT_EQ(rdma_connect(id_.get(), &parameters), 0);
    } else {
      answer_ = event.type;
    }
  }

  const RdmaGreeting shown_;
  std::optional<rdma_cm_event_type> answer_;
  RdmaId id_;
};

}  // namespace faultline::contract

#endif  // FAULTLINE_TESTS_TRANSPORT_RDMA_CALLER_H_
