// A thread for a driver's blocking sequences, and the way of their results back.
#ifndef FAULTLINE_VMM_QEMU_OPERATION_WORKER_H_
#define FAULTLINE_VMM_QEMU_OPERATION_WORKER_H_

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "base/status.h"
#include "seams/executor.h"
#include "vmm/qemu/cancel_event.h"

namespace faultline {

// The thread begins with the first operation, so that it has the rights that its process has then.
// All methods are called on the control executor's thread; so is the destructor, which cancels what
// is under way, waits for it, and lets no `done` run any more.
class OperationWorker {
 public:
  explicit OperationWorker(Executor* control);
  ~OperationWorker();
  // What the destructor does first; for owners whose other members must go after the thread ended.
  void Stop();

  // Runs `body` on the worker's thread after what was given before; then `done` with its result on
  // the control executor.
  template <typename Result>
  void Run(std::function<Result()> body, std::function<void(Result)> done) {
    Enqueue([this, epoch = epoch_, alive = alive_, body = std::move(body), done = std::move(done)] {
      Result result = body();
      control_->Post([this, epoch, alive, result = std::move(result), done = std::move(done)] {
        if (!*alive) return;
        done(epoch == epoch_ ? std::move(result) : Result(absl::CancelledError("given up")));
      });
    });
  }

  // Ends what is under way: the `done` of everything given before gets a Cancelled status, even if
  // it succeeds at this very moment. What is given to Run from now on runs normally.
  void CancelAll();

  // Runs `task` on the control executor unless the worker has been destroyed by then. Worker's
  // thread, or one that ends before the worker does.
  void PostToControl(Task task);

  const CancelEvent* cancel() const { return &cancel_; }

 private:
  void Enqueue(Task task);
  void Work();

  Executor* const control_;
  CancelEvent cancel_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // control thread only
  uint64_t epoch_ = 0;                                          // control thread only

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Task> tasks_;  // guarded by mutex_
  bool stopping_ = false;   // guarded by mutex_
  std::thread thread_;
};

}  // namespace faultline

#endif  // FAULTLINE_VMM_QEMU_OPERATION_WORKER_H_
