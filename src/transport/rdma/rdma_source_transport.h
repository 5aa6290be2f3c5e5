// The source's end of a migration over RDMA.
#ifndef FAULTLINE_TRANSPORT_RDMA_RDMA_SOURCE_TRANSPORT_H_
#define FAULTLINE_TRANSPORT_RDMA_RDMA_SOURCE_TRANSPORT_H_

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/file_descriptor.h"
#include "transport/rdma/rdma_options.h"
#include "transport/rdma/rdma_page_exporter.h"
#include "transport/rdma/rdma_push_lane.h"
#include "transport/rdma/rdma_source_rails.h"
#include "transport/rdma/registered_memory.h"
#include "transport/tcp/tcp_source_transport.h"

namespace faultline {

// Control thread. Teardown: tcp_options.h.
//
// OpenLanes opens both lanes' connections, connects their queue pairs on every rail, and registers
// the VM's memory on every device, which runs meanwhile: that part may take longer than the
// time-out says. Lanes that are opened again use the same registrations: the VM stands still by
// then.
//
// After the handover the VM waits for its pages, so there lanes go on with the rails that can be
// had; those that have broken twice within a short time are tried on one rail after the other; and
// (unless the options forbid it) lanes that can have no queue pairs are given out without: all goes
// over their connections then. The next ones that are opened try RDMA again.
class RdmaSourceTransport : public TcpSourceTransport {
 public:
  RdmaSourceTransport(const RdmaOptions& options, TcpLoops loops);
  ~RdmaSourceTransport() override;

  void OpenLanes(const LaneTerms& terms, int64_t timeout_us, LanesOpen done) override;
  bool one_sided() const override { return true; }
  std::string name() const override { return options().tls != nullptr ? "rdma+tls" : "rdma"; }

 private:
  void UseLanes(JoinedLanes joined) override;
  void ConnectRails(std::optional<size_t> only);
  absl::StatusOr<std::vector<RdmaSourceRails::Address>> RailAddresses() const;
  // So that a device that died is opened anew, and the memory registered with it.
  void ForgetDead();
  void OnDeviceTrouble(const absl::Status& status);
  void BeginRegistering();
  // Plans what is not registered yet on the rails that are connected.
  absl::Status PlanRegistering();
  absl::Status PlanRail(size_t rail);
  void RegisterSome();
  void OnRegistered(absl::StatusOr<bool> more);
  void TellProgress();
  void FinishLanes();
  void GiveOut();
  std::unique_ptr<PushLane> MakePush(JoinedLanes* joined);
  // No RDMA for these lanes, and why: they fall back or fail.
  void FailLanes(const absl::Status& status);
  bool MayFallBack() const;
  // How often in a row lanes may break soon before they are given out without RDMA.
  int broken_in_a_row_max() const;
  void StopRegistering();
  // Ends what an earlier OpenLanes has begun or given out.
  void DropLanes();

  const std::optional<TcpUri> uri_;
  const std::vector<TcpUri> rail_uris_;  // of the rails after the first
  const RdmaTuning tuning_;
  // This process's own.
  const FileDescriptor page_tables_;
  // In the order in which they may go, the last first.
  RdmaSourceRails rails_;
  std::vector<std::shared_ptr<RegisteredMemory>> registered_;  // by rail; shared on one device
  std::deque<size_t> registering_;     // rails on whose devices not all of it is yet
  bool uses_rdma_ = false;             // the lanes that were given out last
  std::optional<JoinedLanes> joined_;  // being opened
  int64_t progress_told_ns_ = 0;
  std::shared_ptr<bool> opening_;  // whose steps on other threads are still wanted
  int64_t given_out_ns_ = 0;       // when the last lanes were
  bool all_connected_ = false;     // of the lanes that were connected last
  int broken_in_a_row_ = 0;        // lanes with queue pairs, each soon after it was given out
  std::unique_ptr<RdmaPageExporter> exporter_;
  std::unique_ptr<PushLane> push_;  // without queue pairs it is plain TCP's
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_RDMA_SOURCE_TRANSPORT_H_
