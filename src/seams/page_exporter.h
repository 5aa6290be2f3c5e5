// The demand lane as the source sees it: memory made readable for the peer.
#ifndef FAULTLINE_SEAMS_PAGE_EXPORTER_H_
#define FAULTLINE_SEAMS_PAGE_EXPORTER_H_

#include "base/status.h"
#include "pages/page_types.h"
#include "seams/source_memory.h"

namespace faultline {

// All calls happen on the demand executor's thread.
class PageExporter {
 public:
  class Listener {
   public:
    virtual ~Listener() = default;
    // The peer has asked for `page` (where the transport can tell); it is being answered.
    virtual void OnDemand(PageId page) = 0;
    virtual void OnExporterFailed(absl::Status status) = 0;
  };

  virtual ~PageExporter() = default;
  // Serves `memory` until Stop; it outlives the exporter's use.
  virtual void Start(const SourceMemory* memory, Listener* listener) = 0;
  virtual void Stop() = 0;
};

}  // namespace faultline

#endif  // FAULTLINE_SEAMS_PAGE_EXPORTER_H_
