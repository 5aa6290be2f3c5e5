// A lane's queue pair, between the control thread, which owns it, and the lane's own.
#ifndef FAULTLINE_TRANSPORT_RDMA_RDMA_LINK_H_
#define FAULTLINE_TRANSPORT_RDMA_RDMA_LINK_H_

#include <atomic>
#include <functional>
#include <memory>
#include <utility>

#include "base/status.h"
#include "seams/executor.h"
#include "transport/rdma/rdma_connection.h"

namespace faultline {

// Released on the control thread, after the lane's end is gone.
class RdmaLink {
 public:
  // Control thread. Once.
  void Establish(std::unique_ptr<RdmaConnection> connection) {
    owned_ = std::move(connection);
    connection_.store(owned_.get(), std::memory_order_release);
  }
  // Control thread, once no end of the lane uses it: a task that still holds the link does no harm.
  void Release() {
    connection_.store(nullptr, std::memory_order_release);
    owned_.reset();
  }
  // Any thread. Null: it is not there yet.
  RdmaConnection* connection() const { return connection_.load(std::memory_order_acquire); }

  // The lane's thread: who hears of it when the queue pair breaks, or has broken before; empty:
  // nobody. Not called from here.
  void OnBroken(std::function<void(const absl::Status&)> broken) {
    broken_ = std::move(broken);
    if (broken_ && unheard_) std::exchange(unheard_, nullptr)();
  }
  // Any thread: tells it to the lane, whose thread is `lane`.
  static void Break(const std::shared_ptr<RdmaLink>& link, Executor* lane,
                    const absl::Status& status) {
    lane->Post([link, lane, status] {
      if (link->broken_) return std::exchange(link->broken_, nullptr)(status);
      if (link->unheard_) return;
      link->unheard_ = [weak = std::weak_ptr(link), lane, status] {
        if (const auto self = weak.lock()) Break(self, lane, status);
      };
    });
  }

 private:
  std::atomic<RdmaConnection*> connection_ = nullptr;
  // The lane's thread. `unheard_` tells the first break that nobody listened to, again.
  std::function<void(const absl::Status&)> broken_;
  std::function<void()> unheard_;
  std::unique_ptr<RdmaConnection> owned_;
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_RDMA_LINK_H_
