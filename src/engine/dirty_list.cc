#include "engine/dirty_list.h"

#include <fmt/format.h>

#include <utility>

#include "pages/page_digest.h"

namespace faultline {

void TellDirtyPages(const PageSet& pages, uint32_t round, bool integrity, size_t ranges_max,
                    const std::function<void(const Message&)>& send) {
  StillDirtyEnd end{.round = round, .dirty_pages = 0, .digest = {}};
  uint64_t digest = 0;
  StillDirty message;
  auto flush = [&] {
    if (!message.ranges.empty()) send(message);
    message.ranges.clear();
  };
  pages.ForEach([&](PageRun run) {
    if (message.region != run.region || message.ranges.size() == ranges_max) flush();
    message.region = run.region;
    message.ranges.push_back({run.first, run.end()});
    end.dirty_pages += run.count;
    digest = DigestWithRange(digest, run.region, {run.first, run.end()});
  });
  flush();
  if (integrity) end.digest = digest;
  send(end);
}

DirtyList::DirtyList(const MemoryLayout& layout, bool integrity)
    : layout_(layout), integrity_(integrity), cursors_(layout.size()) {}

absl::Status DirtyList::Add(const StillDirty& message) {
  if (message.region >= layout_.size()) {
    return absl::InvalidArgumentError(
        fmt::format("StillDirty.region is {}, but there are {}", message.region, layout_.size()));
  }
  const uint64_t page_count = layout_[message.region].page_count();
  uint64_t& cursor = cursors_[message.region];
  for (const PageRange& range : message.ranges) {
    if (range.first < cursor || range.end <= range.first || range.end > page_count) {
      return absl::InvalidArgumentError(fmt::format(
          "StillDirty.ranges of region {}: [{}, {}) is not after page {} and inside {} pages",
          message.region, range.first, range.end, cursor, page_count));
    }
    cursor = range.end;
    page_count_ += range.count();
    digest_ = DigestWithRange(digest_, message.region, range);
    runs_.push_back({message.region, range.first, range.count()});
  }
  return absl::OkStatus();
}

absl::Status DirtyList::End(const StillDirtyEnd& message) const {
  if (message.dirty_pages != page_count_) {
    return absl::InvalidArgumentError(
        fmt::format("StillDirtyEnd.dirty_pages is {}, but the ranges hold {}", message.dirty_pages,
                    page_count_));
  }
  if (integrity_ && message.digest != digest_) {
    return absl::DataLossError(
        "the list of pages that are old changed on its way: it is not what the source sent");
  }
  return absl::OkStatus();
}

std::vector<PageRun> DirtyList::Take() {
  cursors_.assign(layout_.size(), 0);
  page_count_ = 0;
  digest_ = 0;
  return std::exchange(runs_, {});
}

}  // namespace faultline
