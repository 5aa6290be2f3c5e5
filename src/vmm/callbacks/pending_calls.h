// Turns "call back later, exactly once, or with Cancelled" into one place for both drivers.
#ifndef FAULTLINE_VMM_CALLBACKS_PENDING_CALLS_H_
#define FAULTLINE_VMM_CALLBACKS_PENDING_CALLS_H_

#include <functional>
#include <list>
#include <memory>

#include "base/status.h"
#include "seams/executor.h"

namespace faultline {

// Work that was posted to an executor and has not run yet. Destroying it drops what is left without
// a call. Own thread only.
class PendingCalls {
 public:
  using Cancelled = std::function<void(absl::Status)>;

  // `executor` outlives this.
  explicit PendingCalls(Executor* executor) : executor_(executor) {}

  // Runs `body` later, or `cancelled` if CancelAll comes first.
  void Post(Task body, Cancelled cancelled);
  // Work that waits for something else than its turn: only CancelAll or Forget ends it.
  using Ticket = uint64_t;
  Ticket Hold(Cancelled cancelled);
  void Forget(Ticket ticket);
  // What has not run yet gets `reason` instead, each later, in order.
  void CancelAll(const absl::Status& reason);

 private:
  struct Entry {
    Ticket ticket = 0;
    Cancelled cancelled;
  };

  // Takes the entry out; false if it is gone.
  bool Take(Ticket ticket);

  Executor* const executor_;
  Ticket last_ticket_ = 0;
  std::list<Entry> entries_;
  // Posted tasks hold it weakly: they outlive this object.
  std::shared_ptr<PendingCalls*> self_ = std::make_shared<PendingCalls*>(this);
};

}  // namespace faultline

#endif  // FAULTLINE_VMM_CALLBACKS_PENDING_CALLS_H_
