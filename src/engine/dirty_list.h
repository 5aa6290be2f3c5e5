// Lists of pages that were sent before the switch and are old: told by the source, collected and
// checked by the destination.
#ifndef FAULTLINE_ENGINE_DIRTY_LIST_H_
#define FAULTLINE_ENGINE_DIRTY_LIST_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "base/status.h"
#include "pages/memory_layout.h"
#include "pages/page_set.h"
#include "pages/page_types.h"
#include "protocol/messages.h"

namespace faultline {

// Sends `pages` as messages of at most `ranges_max` ranges, and the end of the list.
void TellDirtyPages(const PageSet& pages, uint32_t round, bool integrity, size_t ranges_max,
                    const std::function<void(const Message&)>& send);

// One list at a time, from its first message to its end. Ranges have to ascend over all messages.
class DirtyList {
 public:
  DirtyList() = default;
  DirtyList(const MemoryLayout& layout, bool integrity);

  // InvalidArgument names the field.
  absl::Status Add(const StillDirty& message);
  // DataLoss: the list is not what the source sent.
  absl::Status End(const StillDirtyEnd& message) const;
  // The runs of a list that has ended; the next one begins.
  std::vector<PageRun> Take();

 private:
  MemoryLayout layout_;
  bool integrity_ = false;
  std::vector<PageRun> runs_;
  std::vector<uint64_t> cursors_;  // per region: the end of the last range
  uint64_t page_count_ = 0;
  uint64_t digest_ = 0;
};

}  // namespace faultline

#endif  // FAULTLINE_ENGINE_DIRTY_LIST_H_
