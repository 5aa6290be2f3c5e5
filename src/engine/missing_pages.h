// What a destination says that it still misses, collected from its messages and checked.
#ifndef FAULTLINE_ENGINE_MISSING_PAGES_H_
#define FAULTLINE_ENGINE_MISSING_PAGES_H_

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "pages/memory_layout.h"
#include "pages/page_table.h"
#include "protocol/messages.h"
#include "seams/source_memory.h"

namespace faultline {

// One list, from its first message to its end. Ranges have to ascend over all messages, so a peer
// cannot make it hold more than the layout has pages.
class MissingPages {
 public:
  explicit MissingPages(const MemoryLayout& layout);

  // InvalidArgument names the field.
  absl::Status Add(const StillMissing& message);
  absl::Status End(const StillMissingEnd& message) const;

  uint64_t page_count() const { return page_count_; }
  // The pages that are missing and in `map`.
  AllocationMap In(const AllocationMap& map) const;
  const AllocationMap& all() const { return pages_; }

 private:
  const MemoryLayout layout_;
  AllocationMap pages_;
  std::vector<uint64_t> cursors_;  // per region: the end of the last range
  uint64_t page_count_ = 0;
};

// The list that `table` makes now; calls `send` for each message of it but the end.
template <typename Send>  // void(StillMissing)
uint64_t TellMissingPages(const PageTable& table, size_t ranges_max, Send send) {
  uint64_t pages = 0;
  for (RegionIndex region = 0; region < table.layout().size(); ++region) {
    const uint64_t page_count = table.layout()[region].page_count();
    StillMissing message{.region = region, .ranges = {}};
    PageRun run{region, 0, page_count};
    for (run = table.FindMissing(run); !run.empty();
         run = table.FindMissing({region, run.end(), page_count - run.end()})) {
      message.ranges.push_back({run.first, run.end()});
      pages += run.count;
      if (message.ranges.size() == ranges_max) {
        send(message);
        message.ranges.clear();
      }
    }
    if (!message.ranges.empty()) send(message);
  }
  return pages;
}

}  // namespace faultline

#endif  // FAULTLINE_ENGINE_MISSING_PAGES_H_
