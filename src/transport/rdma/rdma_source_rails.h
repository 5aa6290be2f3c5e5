// The source's queue pairs on all rails.
#ifndef FAULTLINE_TRANSPORT_RDMA_RDMA_SOURCE_RAILS_H_
#define FAULTLINE_TRANSPORT_RDMA_RDMA_SOURCE_RAILS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "protocol/messages.h"
#include "transport/rdma/rdma_dialer.h"
#include "transport/rdma/rdma_domain.h"
#include "transport/rdma/rdma_events.h"
#include "transport/rdma/rdma_link.h"
#include "transport/rdma/rdma_tuning.h"
#include "transport/tcp/tcp_options.h"

namespace faultline {

// Control thread. The bulk lane has a queue pair on each rail, the demand lane one on the first
// that can be had.
class RdmaSourceRails {
 public:
  struct Address {
    SocketAddress peer;
    std::optional<SocketAddress> local;  // none: as the route to the peer has it
  };
  // Of one opening of the lanes.
  struct Terms {
    std::vector<Address> addresses;  // by rail
    std::vector<size_t> rails;  // that are to be connected, the demand lane's first choice first
    SessionToken demand{};      // of the lanes' Welcomes
    SessionToken bulk{};
    SessionToken migration{};
    bool all_wanted = true;  // false: goes on with the rails that can be had
    int64_t timeout_ns = 0;  // of connecting; where the demand lane's rail fails, once more
  };
  using Done = std::function<void(absl::Status)>;
  using Notice = std::function<void(const std::string&)>;
  using Trouble = std::function<void(absl::Status)>;

  // `notice` hears, in sentences for people, of rails that are not used. `trouble` hears, while
  // nothing is being connected, that a device is in trouble: the lanes' threads are told besides.
  RdmaSourceRails(TcpLoops loops, const RdmaTuning& tuning, Notice notice, Trouble trouble)
      : loops_(loops), tuning_(tuning), notice_(std::move(notice)), trouble_(std::move(trouble)) {}
  ~RdmaSourceRails() { Drop(); }

  // Ends what an earlier call has begun or connected. `done` runs once: both lanes have queue
  // pairs, or why not, with the rail named.
  void Connect(Terms terms, Done done);
  // Ends every queue pair; no end of a lane uses one any more. No `done` comes.
  void Drop();
  // No events come any more, on any rail: Connect fails until ForgetDead was called.
  bool broken() const { return events_broken_; }
  // Ends what Drop does and forgets the devices that have died, or all of them if this is broken:
  // the next Connect opens them anew. Whatever else was made of such a domain has gone before.
  void ForgetDead();

  // After `done`, the rails that the bulk lane has a queue pair on.
  std::vector<size_t> connected() const;
  size_t demand_rail() const { return demand_rail_; }
  const std::shared_ptr<RdmaLink>& demand_link() const { return demand_.link; }
  const std::shared_ptr<RdmaLink>& bulk_link(size_t rail) const { return rails_[rail].bulk.link; }
  // Two rails may be on one device, and share its domain.
  const std::shared_ptr<RdmaDomain>& domain(size_t rail) const { return rails_[rail].domain; }

 private:
  struct Pair {
    std::shared_ptr<RdmaLink> link;
    std::unique_ptr<RdmaDialer> dialer;
    std::optional<absl::Status> outcome;  // of connecting

    bool wanted() const { return dialer != nullptr || outcome.has_value(); }
    bool failed() const { return outcome.has_value() && !outcome->ok(); }
    bool connected() const { return outcome.has_value() && outcome->ok(); }
  };
  struct Rail {
    std::shared_ptr<RdmaDomain> domain;
    Pair bulk;
  };

  absl::Status MakeEvents();
  void Dial(Pair* pair, size_t rail);
  void OnConnected(Pair* pair, absl::StatusOr<std::unique_ptr<RdmaConnection>> connection);
  void OnTimeout();
  // What it is about, or everything.
  void OnTrouble(const RdmaDomain* domain, const absl::Status& status);
  absl::StatusOr<std::shared_ptr<RdmaDomain>> DomainOf(size_t rail, const rdma_cm_id& id);
  void StartTimer();
  // Goes on with what is known by now of the pairs.
  void Settle();
  // False: there is no further rail to try.
  bool DialDemandElsewhere();
  // The first failure that is not the destination's having fewer rails, which may show later; none:
  // there is none, or it is to be waited for.
  std::optional<absl::Status> FailureOfOne() const;
  void TellOfLost() const;
  void TellOfUnused() const;
  void Finish(const absl::Status& status);
  std::vector<Pair*> pairs();
  Loop* LoopOf(const Pair* pair) const { return pair == &demand_ ? loops_.demand : loops_.bulk; }

  const TcpLoops loops_;
  const RdmaTuning tuning_;
  const Notice notice_;
  const Trouble trouble_;
  Terms terms_;
  Done done_;
  std::unique_ptr<Timer> timeout_;
  // In the order in which they may go, the last first.
  std::unique_ptr<RdmaEvents> events_;
  bool events_broken_ = false;
  std::vector<Rail> rails_;
  Pair demand_;
  size_t demand_rail_ = 0;
  std::optional<size_t> peer_rails_;  // as the destination says
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_RDMA_SOURCE_RAILS_H_
