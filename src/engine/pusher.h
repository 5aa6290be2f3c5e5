// Sends memory over the bulk lane: before the switch what a round consists of, after it everything
// that nobody has asked for yet, in the order that a policy gives.
//
// Thread safety: lives on the bulk executor's thread, except OnDemand.
#ifndef FAULTLINE_ENGINE_PUSHER_H_
#define FAULTLINE_ENGINE_PUSHER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "base/spsc_ring.h"
#include "pages/page_set.h"
#include "pages/write_history.h"
#include "seams/push_lane.h"
#include "seams/push_order.h"

namespace faultline {

// A piece of a pre-copy round.
struct RoundPart {
  uint32_t round = 0;
  bool begins = false;  // it is the round's first
  bool ends = false;    // and its last
  PageSet pages;
};

class Pusher : public PushLane::Listener {
 public:
  using Failed = std::function<void(absl::Status)>;
  using Pushed = std::function<void()>;

  // `failed` is called on the bulk thread when the lane breaks.
  Pusher(std::unique_ptr<PushOrder> order, Failed failed);

  // Pushes `part` of `memory` over `lane`, in the pages' order; `pushed` is called on this thread
  // when the lane has taken all of it, maybe from within. One part at a time, all before Start and
  // over the same lane as it.
  void PushPart(PushLane* lane, const SourceMemory* memory, RoundPart part, Pushed pushed);
  // Pushes what `map` holds of `memory` over `lane`. All are left alone after Stop, and another
  // Start may follow it. The order is told of `history`, where there is one.
  void Start(PushLane* lane, const SourceMemory* memory, const AllocationMap* map,
             const WriteHistory* history = nullptr);
  // The peer needed `page` just now. One thread at a time, any; also before Start. A hint that does
  // not fit in is lost: the page is pushed all the same.
  void OnDemand(PageId page);
  // Forgets what was demanded and not looked at yet: the answer may have been lost with the lane.
  void Stop();

  void OnLaneWritable() override;
  void OnLaneFailed(absl::Status status) override;

 private:
  void Use(PushLane* lane, const SourceMemory* memory);
  void Fill();
  void FillPart();
  // The next run of the part; empty when it is through.
  PageRun NextOfPart();

  const std::unique_ptr<PushOrder> order_;
  const Failed failed_;
  PushLane* lane_ = nullptr;  // null unless started
  const SourceMemory* memory_ = nullptr;
  std::optional<RoundPart> part_;
  PageId part_cursor_;  // nothing of the part is left before it
  Pushed pushed_;
  bool started_ = false;  // Start was called, after the last part
  SpscRing<PageId, 4096> demanded_;
  PageRun next_;  // taken from the order or the part, refused by the lane
  bool finished_ = false;
};

}  // namespace faultline

#endif  // FAULTLINE_ENGINE_PUSHER_H_
