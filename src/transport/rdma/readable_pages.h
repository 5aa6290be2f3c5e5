// Which pages of the source lie where RDMA READ finds them. Pure.
#ifndef FAULTLINE_TRANSPORT_RDMA_READABLE_PAGES_H_
#define FAULTLINE_TRANSPORT_RDMA_READABLE_PAGES_H_

#include <map>
#include <optional>
#include <vector>

#include "base/status.h"
#include "pages/memory_layout.h"
#include "pages/page_types.h"
#include "protocol/messages.h"

namespace faultline {

// One stretch of a region, contiguous in the source's process.
struct ReadableRun {
  PageRun run;
  RemotePlace place;
};

// One thread, or constant.
class ReadablePages {
 public:
  explicit ReadablePages(MemoryLayout layout) : layout_(std::move(layout)), runs_(layout_.size()) {}

  // The run lies inside the layout. InvalidArgument: some of it is known already, or its bytes do
  // not fit into an address space.
  absl::Status Add(const PageRun& run, const RemotePlace& place);
  // Where `run` begins, if all of it lies in one stretch.
  std::optional<RemotePlace> Find(const PageRun& run) const;
  // How many of the first pages of `run` lie in one stretch, and where; without a place: how many
  // are in none.
  struct Beginning {
    uint64_t pages = 0;
    std::optional<RemotePlace> place;
  };
  Beginning BeginningOf(const PageRun& run) const;
  std::vector<ReadableRun> all() const;
  uint64_t page_count() const { return page_count_; }

 private:
  const MemoryLayout layout_;
  std::vector<std::map<uint64_t, ReadableRun>> runs_;  // by region; by the first page
  uint64_t page_count_ = 0;
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_READABLE_PAGES_H_
