// What both sides say of pages that are not what the source read.
#ifndef FAULTLINE_ENGINE_MISMATCH_H_
#define FAULTLINE_ENGINE_MISMATCH_H_

#include <optional>

#include "base/status.h"
#include "pages/memory_layout.h"
#include "pages/page_types.h"

namespace faultline {

// One thread.
class MismatchNotes {
 public:
  // DataLoss, with the sentence for people: where, what was done, what mends it. `run` is inside
  // `layout`.
  absl::Status Note(const MemoryLayout& layout, PageRun run);
  void NoteMap() { ++count_; }

  uint64_t count() const { return count_; }
  // The last two had a page in common: trying again at once helps nobody.
  bool repeats() const { return in_a_row_ > 1; }

 private:
  uint64_t count_ = 0;
  std::optional<PageRun> last_;
  int in_a_row_ = 0;
};

}  // namespace faultline

#endif  // FAULTLINE_ENGINE_MISMATCH_H_
