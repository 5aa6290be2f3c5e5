// The destination's end of connecting queue pairs.
#ifndef FAULTLINE_TRANSPORT_RDMA_RDMA_ACCEPTOR_H_
#define FAULTLINE_TRANSPORT_RDMA_RDMA_ACCEPTOR_H_

#include <functional>
#include <list>
#include <memory>
#include <string>

#include "base/status.h"
#include "protocol/messages.h"
#include "seams/fd_poller.h"
#include "transport/rdma/rdma_connection.h"
#include "transport/rdma/rdma_domain.h"
#include "transport/rdma/rdma_events.h"
#include "transport/rdma/rdma_link.h"
#include "transport/tcp/tcp_socket.h"

namespace faultline {

// One lane that a queue pair is awaited for.
struct AwaitedLane {
  ConnectionRole role = ConnectionRole::kDemand;
  SessionToken token{};  // what the peer shows and is shown
  std::shared_ptr<RdmaLink> link;
  Executor* executor = nullptr;  // the lane's
  uint32_t reads_max = 0;
  size_t slot_bytes = 0;
  uint8_t rails = 1;  // that this side has
};

// Control thread; of one rail. Whoever cannot show an awaited lane's token is refused, without
// effect on anybody else; a token serves once, and so does a link that is awaited on several rails.
class RdmaAcceptor : public RdmaEventListener {
 public:
  // `notice` hears, in sentences for people, why a queue pair could not be had.
  RdmaAcceptor(FdPoller* control, const RdmaTuning& tuning,
               std::function<void(const std::string&)> notice)
      : control_(control), tuning_(tuning), notice_(std::move(notice)) {}

  ~RdmaAcceptor() override { Clear(); }

  // AlreadyExists if the port is taken among RDMA's; FailedPrecondition if the address is not the
  // tuning's device's.
  absl::Status Listen(const SocketAddress& address);
  // After Clear: listens anew if what listened has died with its device or with the connection
  // manager. If that cannot be, a notice says so once, and the next call tries again.
  void ListenAgain();
  void Await(AwaitedLane lane) { awaited_.push_back(std::move(lane)); }
  // Ends every queue pair; no end of a lane uses one any more.
  void Clear();

 private:
  // A lane that has its queue pair.
  struct Lane : RdmaEventListener {
    AwaitedLane terms;
    void OnRdmaEvent(const RdmaEvent& event) override;
  };

  void OnRdmaEvent(const RdmaEvent& event) override;
  absl::Status Listen();
  void OnRequest(const RdmaEvent& request);
  absl::Status Accept(const RdmaEvent& request, RdmaId id, AwaitedLane awaited);
  // What the queue pair of `request` is for: READs by this end or, on the bulk lane where the
  // source asks for it, its WRITEs.
  static absl::StatusOr<RdmaTerms> TermsOf(const RdmaEvent& request, const RdmaDomain& domain,
                                           const AwaitedLane& lane);
  // The queue pair of `request`, brought up, with its slots.
  absl::StatusOr<std::unique_ptr<RdmaConnection>> Connect(const RdmaEvent& request, RdmaId id,
                                                          const AwaitedLane& terms);
  absl::StatusOr<std::shared_ptr<RdmaDomain>> DomainOf(const rdma_cm_id& id);
  void OnTrouble(const absl::Status& status);

  FdPoller* const control_;
  const RdmaTuning tuning_;
  const std::function<void(const std::string&)> notice_;
  std::unique_ptr<RdmaEvents> events_;
  RdmaId listener_;
  SocketAddress address_;  // that it listens on
  bool is_deaf_ = false;   // it hears of no connection any more
  bool deaf_told_ = false;
  std::list<AwaitedLane> awaited_;
  std::list<std::unique_ptr<Lane>> lanes_;
  std::weak_ptr<RdmaDomain> domain_;  // the last connection's
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_RDMA_ACCEPTOR_H_
