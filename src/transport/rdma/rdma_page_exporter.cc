#include "transport/rdma/rdma_page_exporter.h"

#include <utility>
#include <vector>

#include "base/check.h"
#include "protocol/codec.h"
#include "transport/rdma/readable_frame.h"

namespace faultline {

RdmaPageExporter::RdmaPageExporter(Loop* demand, std::unique_ptr<TcpPageExporter> connection,
                                   std::shared_ptr<RdmaLink> link,
                                   std::shared_ptr<RegisteredMemory> registered)
    : loop_(demand),
      connection_(std::move(connection)),
      link_(std::move(link)),
      registered_(std::move(registered)) {}

void RdmaPageExporter::Start(const SourceMemory* memory, PageExporter::Listener* listener) {
  FAULTLINE_CHECK(loop_->IsOwnThread() && listener_ == nullptr);
  listener_ = listener;
  link_->OnBroken([this](const absl::Status& status) { Fail(status); });
  if (registered_ != nullptr) {
    std::vector<std::byte> frames;
    for (const ReadableRun& readable : registered_->Readable().all()) {
      const ReadableFrame frame = EncodeReadableFrame(readable.run, readable.place);
      frames.insert(frames.end(), frame.begin(), frame.end());
    }
    connection_->SendFirst(std::move(frames));
  }
  connection_->Start(memory, this);
}

void RdmaPageExporter::Stop() {
  FAULTLINE_CHECK(loop_->IsOwnThread());
  listener_ = nullptr;
  link_->OnBroken(nullptr);
  connection_->Stop();
}

void RdmaPageExporter::Fail(const absl::Status& status) {
  PageExporter::Listener* listener = std::exchange(listener_, nullptr);
  if (listener == nullptr) return;
  link_->OnBroken(nullptr);
  connection_->Stop();
  listener->OnExporterFailed(status);
}

}  // namespace faultline
