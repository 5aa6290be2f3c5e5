// The source's end of a migration over RDMA.
#ifndef FAULTLINE_TRANSPORT_RDMA_RDMA_SOURCE_TRANSPORT_H_
#define FAULTLINE_TRANSPORT_RDMA_RDMA_SOURCE_TRANSPORT_H_

#include <memory>
#include <optional>
#include <string>

#include "base/file_descriptor.h"
#include "transport/rdma/rdma_dialer.h"
#include "transport/rdma/rdma_events.h"
#include "transport/rdma/rdma_link.h"
#include "transport/rdma/rdma_options.h"
#include "transport/rdma/rdma_page_exporter.h"
#include "transport/rdma/rdma_push_lane.h"
#include "transport/rdma/registered_memory.h"
#include "transport/tcp/tcp_source_transport.h"

namespace faultline {

// Control thread. Teardown: tcp_options.h.
//
// OpenLanes opens both lanes' connections, connects their queue pairs, and registers the VM's
// memory, which runs meanwhile: that part may take longer than the time-out says. Lanes that are
// opened again use the same registrations: the VM stands still by then.
//
// After the handover the VM waits for its pages, so there (unless the options forbid it) lanes
// whose queue pairs cannot be had, or have broken twice within a short time, are given out without:
// all goes over their connections then. The next ones that are opened try RDMA again.
class RdmaSourceTransport : public TcpSourceTransport {
 public:
  RdmaSourceTransport(const RdmaOptions& options, TcpLoops loops);
  ~RdmaSourceTransport() override;

  void OpenLanes(const LaneTerms& terms, int64_t timeout_us, LanesOpen done) override;
  bool one_sided() const override { return true; }
  std::string name() const override { return options().tls != nullptr ? "rdma+tls" : "rdma"; }

 private:
  struct Lane {
    std::shared_ptr<RdmaLink> link;
    std::unique_ptr<RdmaDialer> dialer;
  };

  void UseLanes(JoinedLanes joined) override;
  void DialBoth();
  absl::Status MakeEvents();
  void OnDeviceTrouble(const absl::Status& status);
  absl::Status Dial(Lane* lane, const JoinedLane& joined, ConnectionRole role, Loop* loop);
  void OnConnected(Lane* lane, absl::StatusOr<std::unique_ptr<RdmaConnection>> connection);
  absl::StatusOr<std::shared_ptr<RdmaDomain>> DomainOf(const rdma_cm_id& id);
  void BeginRegistering();
  void RegisterSome();
  void OnRegistered(absl::StatusOr<bool> more);
  void TellProgress();
  void FinishLanes();
  void GiveOut();
  // No RDMA for these lanes, and why: they fall back or fail.
  void FailLanes(const absl::Status& status);
  bool MayFallBack() const;
  // Ends queue pairs that nobody uses, or no more.
  void DropQueuePairs();
  // Ends what an earlier OpenLanes has begun or given out.
  void DropLanes();

  const std::optional<TcpUri> uri_;
  const RdmaTuning tuning_;
  // This process's own.
  const FileDescriptor page_tables_;
  // In the order in which they may go, the last first.
  std::unique_ptr<RdmaEvents> events_;
  bool events_broken_ = false;  // everything that was made with them has to go
  std::shared_ptr<RdmaDomain> domain_;
  std::shared_ptr<RegisteredMemory> registered_;
  bool registering_ = false;  // not all of it is yet
  Lane demand_;
  Lane bulk_;
  bool uses_rdma_ = false;             // the lanes that were given out last
  std::optional<JoinedLanes> joined_;  // being opened
  std::unique_ptr<Timer> timeout_;
  int64_t progress_told_ns_ = 0;
  std::shared_ptr<bool> opening_;  // whose steps on other threads are still wanted
  int64_t given_out_ns_ = 0;       // when the last lanes were
  bool both_connected_ = false;    // of the lanes that were dialled last
  int broken_in_a_row_ = 0;        // lanes with queue pairs, each soon after it was given out
  std::unique_ptr<RdmaPageExporter> exporter_;
  std::unique_ptr<RdmaPushLane> push_;
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_RDMA_SOURCE_TRANSPORT_H_
