#include "engine/pusher.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/check.h"

namespace faultline {

Pusher::Pusher(std::unique_ptr<PushOrder> order, Failed failed)
    : order_(std::move(order)), failed_(std::move(failed)) {}

void Pusher::Use(PushLane* lane, const SourceMemory* memory) {
  memory_ = memory;
  if (lane_ == lane) return;
  lane_ = lane;
  lane_->Start(memory, this);
}

void Pusher::PushPart(PushLane* lane, const SourceMemory* memory, RoundPart part, Pushed pushed) {
  FAULTLINE_CHECK(!part_.has_value() && !started_);
  part_ = std::move(part);
  part_cursor_ = {};
  pushed_ = std::move(pushed);
  Use(lane, memory);
  Fill();
}

void Pusher::Start(PushLane* lane, const SourceMemory* memory, const AllocationMap* map,
                   const WriteHistory* history) {
  FAULTLINE_CHECK(!part_.has_value());
  order_->SetHistory(history);
  order_->Start(memory->layout(), *map);
  started_ = true;
  Use(lane, memory);
  Fill();
}

void Pusher::OnDemand(PageId page) {
  // Nobody is woken for it: the lane asks for more soon enough.
  (void)demanded_.TryPush(page);
}

void Pusher::Stop() {
  if (lane_ != nullptr) std::exchange(lane_, nullptr)->Stop();
  while (demanded_.TryPop()) continue;
  next_ = {};
  part_.reset();
  pushed_ = nullptr;
  started_ = false;
  finished_ = false;
}

void Pusher::OnLaneWritable() { Fill(); }

void Pusher::Fill() {
  if (part_.has_value()) FillPart();
  while (lane_ != nullptr && started_ && !finished_) {
    while (std::optional<PageId> page = demanded_.TryPop()) order_->OnDemand(*page);
    if (next_.empty()) next_ = order_->Next(lane_->run_bytes_max());
    if (next_.empty()) {
      finished_ = true;
      lane_->Finish();
      return;
    }
    if (!lane_->TryPush(next_)) return;
    next_ = {};
  }
}

void Pusher::FillPart() {
  if (part_->begins && !lane_->TryMark(PageFrameKind::kRoundBegin, part_->round)) return;
  part_->begins = false;
  while (true) {
    if (next_.empty()) next_ = NextOfPart();
    if (next_.empty()) break;
    if (!lane_->TryPush(next_)) return;
    next_ = {};
  }
  if (part_->ends && !lane_->TryMark(PageFrameKind::kRoundEnd, part_->round)) return;
  part_.reset();
  std::exchange(pushed_, nullptr)();
}

PageRun Pusher::NextOfPart() {
  const MemoryLayout& layout = memory_->layout();
  for (; part_cursor_.region < layout.size(); part_cursor_ = {part_cursor_.region + 1, 0}) {
    const RegionLayout& region = layout[part_cursor_.region];
    const uint64_t pages_max =
        std::max<uint64_t>(1, lane_->run_bytes_max() / region.page_size_bytes);
    const PageRun run = part_->pages.FindFirst(
        {part_cursor_.region, part_cursor_.index, region.page_count() - part_cursor_.index},
        pages_max);
    if (run.empty()) continue;
    part_cursor_.index = run.end();
    return run;
  }
  return {};
}

void Pusher::OnLaneFailed(absl::Status status) { failed_(Annotate(status, "bulk lane")); }

}  // namespace faultline
