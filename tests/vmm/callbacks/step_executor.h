// An executor that runs its tasks when the test says so.
#ifndef FAULTLINE_TESTS_VMM_CALLBACKS_STEP_EXECUTOR_H_
#define FAULTLINE_TESTS_VMM_CALLBACKS_STEP_EXECUTOR_H_

#include <deque>
#include <memory>
#include <utility>

#include "base/check.h"
#include "seams/executor.h"

namespace faultline {

class StepExecutor : public Executor {
 public:
  void Post(Task task) override { tasks_.push_back(std::move(task)); }
  std::unique_ptr<Timer> RunAfter(int64_t, Task) override {
    FAULTLINE_CHECK(false);  // nobody here uses timers
    return nullptr;
  }
  int64_t NowNanos() const override { return 0; }

  // Runs what was posted, and what that posts.
  void RunAll() {
    while (!tasks_.empty()) {
      Task task = std::move(tasks_.front());
      tasks_.pop_front();
      task();
    }
  }
  size_t waiting() const { return tasks_.size(); }

 private:
  std::deque<Task> tasks_;
};

}  // namespace faultline

#endif  // FAULTLINE_TESTS_VMM_CALLBACKS_STEP_EXECUTOR_H_
