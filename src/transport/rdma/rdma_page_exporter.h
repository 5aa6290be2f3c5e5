// The demand lane's source end over RDMA.
#ifndef FAULTLINE_TRANSPORT_RDMA_RDMA_PAGE_EXPORTER_H_
#define FAULTLINE_TRANSPORT_RDMA_RDMA_PAGE_EXPORTER_H_

#include <memory>

#include "runtime/loop.h"
#include "seams/page_exporter.h"
#include "transport/rdma/rdma_link.h"
#include "transport/rdma/registered_memory.h"
#include "transport/tcp/tcp_page_exporter.h"

namespace faultline {

// Made and destroyed on the control thread, used on the demand thread; destroyed after Stop or
// after the demand loop has ended.
//
// Says once which pages can be read, and then answers what it is asked for all the same. Of what is
// read it knows nothing: OnDemand is not called for that.
class RdmaPageExporter : public PageExporter, PageExporter::Listener {
 public:
  // `registered` may be null: every page is asked for.
  RdmaPageExporter(Loop* demand, std::unique_ptr<TcpPageExporter> connection,
                   std::shared_ptr<RdmaLink> link, std::shared_ptr<RegisteredMemory> registered);

  // The VM stands still from here on.
  void Start(const SourceMemory* memory, PageExporter::Listener* listener) override;
  void Stop() override;

 private:
  void OnDemand(PageId page) override { listener_->OnDemand(page); }
  void OnExporterFailed(absl::Status status) override { Fail(status); }
  void Fail(const absl::Status& status);

  Loop* const loop_;
  const std::unique_ptr<TcpPageExporter> connection_;
  const std::shared_ptr<RdmaLink> link_;
  const std::shared_ptr<RegisteredMemory> registered_;
  PageExporter::Listener* listener_ = nullptr;
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_RDMA_PAGE_EXPORTER_H_
