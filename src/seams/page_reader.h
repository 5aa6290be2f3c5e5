// The demand lane as the destination sees it: "read these pages of the source, now".
#ifndef FAULTLINE_SEAMS_PAGE_READER_H_
#define FAULTLINE_SEAMS_PAGE_READER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/status.h"
#include "pages/page_types.h"

namespace faultline {

// All calls happen on the demand executor's thread.
class PageReader {
 public:
  class Listener {
   public:
    virtual ~Listener() = default;
    // One page's bytes (empty: the page is zero), and what the source's check sum of them was where
    // the lane carries one. Answers come in any order. The bytes belong to the reader again when
    // the call returns.
    virtual void OnPage(PageId page, std::span<const std::byte> bytes,
                        std::optional<uint64_t> digest) = 0;
    // No answer will come any more.
    virtual void OnReaderFailed(absl::Status status) = 0;
  };

  virtual ~PageReader() = default;
  virtual void Start(Listener* listener) = 0;
  // Asks for pages; queues what the transport cannot take at once. The span need not outlive the
  // call.
  virtual void Read(std::span<const PageId> pages) = 0;
  // Nothing calls the listener after this returns.
  virtual void Stop() = 0;
};

}  // namespace faultline

#endif  // FAULTLINE_SEAMS_PAGE_READER_H_
