#include "engine/mismatch.h"

#include <fmt/format.h>

namespace faultline {

absl::Status MismatchNotes::Note(const MemoryLayout& layout, PageRun run) {
  ++count_;
  // What is pushed and what is asked for are cut in other ways.
  const bool again = last_.has_value() && last_->region == run.region && last_->first < run.end() &&
                     run.first < last_->end();
  in_a_row_ = again ? in_a_row_ + 1 : 1;
  last_ = run;
  const RegionLayout& region = layout[run.region];
  const std::string pages = run.count == 1
                                ? fmt::format("page {}", run.first)
                                : fmt::format("pages {} to {}", run.first, run.end() - 1);
  const std::string how_often =
      repeats() ? fmt::format(", for the {}. time in a row", in_a_row_) : std::string();
  return absl::DataLossError(fmt::format(
      "{} of region '{}' (offset {}, {} bytes) changed between the source's memory and here{}: "
      "nothing of it was put in, and it is asked for again. If it happens again, look for errors "
      "in the memory of both hosts (EDAC) and, without TLS, of the network between them "
      "(ethtool -S)",
      pages, region.name, run.first * region.page_size_bytes, run.count * region.page_size_bytes,
      how_often));
}

}  // namespace faultline
