#include "transport/rdma/readable_pages.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <limits>

namespace faultline {

absl::Status ReadablePages::Add(const PageRun& run, const RemotePlace& place) {
  const uint64_t bytes = run.count * layout_[run.region].page_size_bytes;
  if (place.address > std::numeric_limits<uint64_t>::max() - bytes) {
    return absl::InvalidArgumentError(
        fmt::format("bad page frame from the peer: field 'address' is {:#x}, from which {} bytes "
                    "reach beyond the end",
                    place.address, bytes));
  }
  auto& known = runs_[run.region];
  const auto after = known.lower_bound(run.first);
  const bool overlaps_after = after != known.end() && after->first < run.end();
  const bool overlaps_before =
      after != known.begin() && std::prev(after)->second.run.end() > run.first;
  if (overlaps_after || overlaps_before) {
    return absl::InvalidArgumentError(fmt::format(
        "bad page frame from the peer: field 'first page' is {}, and pages from there on are "
        "readable already",
        run.first));
  }
  known.emplace_hint(after, run.first, ReadableRun{run, place});
  page_count_ += run.count;
  return absl::OkStatus();
}

std::optional<RemotePlace> ReadablePages::Find(const PageRun& run) const {
  const Beginning beginning = BeginningOf(run);
  return beginning.pages == run.count ? beginning.place : std::nullopt;
}

ReadablePages::Beginning ReadablePages::BeginningOf(const PageRun& run) const {
  const auto& known = runs_[run.region];
  const auto after = known.upper_bound(run.first);
  if (after != known.begin()) {
    const ReadableRun& found = std::prev(after)->second;
    if (found.run.end() > run.first) {
      const uint64_t offset = (run.first - found.run.first) * layout_[run.region].page_size_bytes;
      return {std::min(run.end(), found.run.end()) - run.first,
              RemotePlace{found.place.address + offset, found.place.key}};
    }
  }
  const uint64_t end = after == known.end() ? run.end() : std::min(run.end(), after->first);
  return {end - run.first, std::nullopt};
}

std::vector<ReadableRun> ReadablePages::all() const {
  std::vector<ReadableRun> all;
  for (const auto& region : runs_) {
    for (const auto& [first, run] : region) all.push_back(run);
  }
  return all;
}

}  // namespace faultline
