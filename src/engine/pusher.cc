#include "engine/pusher.h"

#include <optional>
#include <utility>

namespace faultline {

Pusher::Pusher(std::unique_ptr<PushOrder> order, Failed failed)
    : order_(std::move(order)), failed_(std::move(failed)) {}

void Pusher::Start(PushLane* lane, const SourceMemory* memory, const AllocationMap* map) {
  order_->Start(memory->layout(), *map);
  lane_ = lane;
  lane_->Start(memory, this);
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
  finished_ = false;
}

void Pusher::OnLaneWritable() { Fill(); }

void Pusher::Fill() {
  while (lane_ != nullptr && !finished_) {
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

void Pusher::OnLaneFailed(absl::Status status) { failed_(Annotate(status, "bulk lane")); }

}  // namespace faultline
