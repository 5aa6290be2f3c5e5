#include "vmm/callbacks/pending_calls.h"

#include <utility>

namespace faultline {

void PendingCalls::Post(Task body, Cancelled cancelled) {
  const Ticket ticket = Hold(std::move(cancelled));
  executor_->Post([alive = std::weak_ptr<PendingCalls*>(self_), ticket, body = std::move(body)] {
    const std::shared_ptr<PendingCalls*> self = alive.lock();
    if (self != nullptr && (*self)->Take(ticket)) body();
  });
}

PendingCalls::Ticket PendingCalls::Hold(Cancelled cancelled) {
  entries_.push_back({++last_ticket_, std::move(cancelled)});
  return last_ticket_;
}

void PendingCalls::Forget(Ticket ticket) { Take(ticket); }

void PendingCalls::CancelAll(const absl::Status& reason) {
  std::list<Entry> entries = std::exchange(entries_, {});
  for (Entry& entry : entries) {
    executor_->Post([alive = std::weak_ptr<PendingCalls*>(self_),
                     cancelled = std::move(entry.cancelled), reason] {
      if (!alive.expired()) cancelled(reason);
    });
  }
}

bool PendingCalls::Take(Ticket ticket) {
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
    if (entry->ticket != ticket) continue;
    entries_.erase(entry);
    return true;
  }
  return false;
}

}  // namespace faultline
