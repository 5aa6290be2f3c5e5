// Nothing that had arrived when a connection was made again is sent on it.
#ifndef FAULTLINE_TESTS_SIM_ARRIVED_ONCE_H_
#define FAULTLINE_TESTS_SIM_ARRIVED_ONCE_H_

#include <fmt/format.h>

#include <set>
#include <utility>

#include "pages/page_table.h"
#include "sim/watch.h"

namespace faultline::sim {

// Knows what the destination had when it last said what it misses. A list that did not become a
// connection (the source had given that one up by then) says nothing. One thread.
class ArrivedOnce {
 public:
  // `watch` outlives it.
  explicit ArrivedOnce(Watch* watch) : watch_(watch) {}

  // The destination has told all that `table` misses.
  void OnListed(const PageTable& table) {
    listed_.clear();
    for (RegionIndex region = 0; region < table.layout().size(); ++region) {
      for (uint64_t index = 0; index < table.layout()[region].page_count(); ++index) {
        if (table.Get({region, index}) != PageState::kMissing) listed_.insert({region, index});
      }
    }
  }
  // The source has its lanes again.
  void OnConnected() { arrived_ = std::move(listed_); }
  // The source sends pages.
  void OnSent(PageRun run) {
    for (uint64_t index = run.first; index < run.end(); ++index) {
      if (!arrived_.contains({run.region, index})) continue;
      watch_->Fail(
          fmt::format("sent again though it had arrived: page {} of region {}", index, run.region));
    }
  }

 private:
  Watch* const watch_;
  std::set<PageId> listed_;
  std::set<PageId> arrived_;
};

}  // namespace faultline::sim

#endif  // FAULTLINE_TESTS_SIM_ARRIVED_ONCE_H_
