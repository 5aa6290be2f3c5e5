// The alarm of the executors that tests have.
#ifndef FAULTLINE_TESTS_FAKES_TIMER_ALARM_H_
#define FAULTLINE_TESTS_FAKES_TIMER_ALARM_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "seams/executor.h"

namespace faultline {

// Made of its executor's timers.
class TimerAlarm : public Alarm {
 public:
  TimerAlarm(Executor* executor, Task task) : executor_(executor), task_(std::move(task)) {}

  void Set(int64_t delay_us) override {
    timer_ = executor_->RunAfter(delay_us, [this] {
      timer_.reset();
      task_();
    });
  }
  void Clear() override { timer_.reset(); }
  bool is_set() const override { return timer_ != nullptr; }

 private:
  Executor* const executor_;
  const Task task_;
  std::unique_ptr<Timer> timer_;
};

}  // namespace faultline

#endif  // FAULTLINE_TESTS_FAKES_TIMER_ALARM_H_
