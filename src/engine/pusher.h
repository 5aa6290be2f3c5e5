// Sends everything that nobody has asked for yet, in the order that a policy gives.
//
// Thread safety: lives on the bulk executor's thread, except OnDemand.
#ifndef FAULTLINE_ENGINE_PUSHER_H_
#define FAULTLINE_ENGINE_PUSHER_H_

#include <functional>
#include <memory>

#include "base/spsc_ring.h"
#include "seams/push_lane.h"
#include "seams/push_order.h"

namespace faultline {

class Pusher : public PushLane::Listener {
 public:
  using Failed = std::function<void(absl::Status)>;

  // `failed` is called on the bulk thread when the lane breaks.
  Pusher(std::unique_ptr<PushOrder> order, Failed failed);

  // Pushes what `map` holds of `memory` over `lane`. All are left alone after Stop, and another
  // Start may follow it.
  void Start(PushLane* lane, const SourceMemory* memory, const AllocationMap* map);
  // The peer needed `page` just now. One thread at a time, any; also before Start. A hint that does
  // not fit in is lost: the page is pushed all the same.
  void OnDemand(PageId page);
  // Forgets what was demanded and not looked at yet: the answer may have been lost with the lane.
  void Stop();

  void OnLaneWritable() override;
  void OnLaneFailed(absl::Status status) override;

 private:
  void Fill();

  const std::unique_ptr<PushOrder> order_;
  const Failed failed_;
  PushLane* lane_ = nullptr;  // null unless started
  SpscRing<PageId, 4096> demanded_;
  PageRun next_;  // taken from the order, refused by the lane
  bool finished_ = false;
};

}  // namespace faultline

#endif  // FAULTLINE_ENGINE_PUSHER_H_
