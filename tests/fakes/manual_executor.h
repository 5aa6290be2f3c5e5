// Executors on a virtual clock, all run by the calling thread: tests decide when anything happens,
// and the same seed gives the same order again.
#ifndef FAULTLINE_TESTS_FAKES_MANUAL_EXECUTOR_H_
#define FAULTLINE_TESTS_FAKES_MANUAL_EXECUTOR_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "seams/executor.h"

namespace faultline {

class ManualExecutor;

// The time that some ManualExecutors share, and the order in which they run. It outlives them. One
// thread.
class ManualClock {
 public:
  // Without a seed tasks run in the order in which they were posted, over all executors. With one,
  // a random executor of those that have work runs next (each keeps its own order).
  ManualClock() = default;
  explicit ManualClock(uint64_t seed) : seeded_(true), random_(seed) {}
  ManualClock(const ManualClock&) = delete;
  ManualClock& operator=(const ManualClock&) = delete;

  int64_t now_ns() const { return now_ns_; }

  // Runs what is posted, and what that posts, until nothing is. Time stands still.
  void RunUntilIdle();
  // Goes to `now_ns` (not earlier than now), running every timer on the way and what is posted.
  void AdvanceTo(int64_t now_ns);
  void AdvanceBy(int64_t duration_us) { AdvanceTo(now_ns_ + duration_us * 1000); }
  // Runs, and lets time pass from timer to timer, until `done` holds (true) or `limit_us` has
  // passed or nothing is left that could happen (what `done` says then).
  bool RunUntil(const std::function<bool()>& done, int64_t limit_us = 60'000'000);

  // As Executor::RunAfter, from any task, at a moment. For fakes that stand between executors.
  std::unique_ptr<Timer> Schedule(ManualExecutor* executor, int64_t at_ns, Task task);

  // The executor whose task is running; null outside of tasks. A task may throw: that ends the Run
  // that is under way, and the next one goes on behind the task.
  const ManualExecutor* current() const { return current_; }

 private:
  friend class ManualExecutor;
  struct Pending {
    ManualExecutor* executor;
    Task task;         // empty: cancelled
    bool own = false;  // set by RunAfter
  };
  class ManualTimer;

  std::unique_ptr<Timer> Add(int64_t at_ns, Pending pending);
  void Remove(ManualExecutor* executor);
  bool RunOnePosted();
  // Runs the earliest timer that is due until `limit_ns`; false if there is none.
  bool RunOneTimer(int64_t limit_ns);
  void RunAs(ManualExecutor* executor, const Task& task);

  const bool seeded_ = false;
  std::mt19937_64 random_;
  int64_t now_ns_ = 1'000'000'000;
  uint64_t posts_ = 0;
  std::vector<ManualExecutor*> executors_;
  std::vector<ManualExecutor*> ready_;                       // reused
  std::multimap<int64_t, std::shared_ptr<Pending>> timers_;  // same moment: first set, first run
  const ManualExecutor* current_ = nullptr;
};

class ManualExecutor : public Executor {
 public:
  explicit ManualExecutor(ManualClock* clock, std::string name = "manual");
  // What was posted and not run is dropped.
  ~ManualExecutor() override;

  void Post(Task task) override;
  std::unique_ptr<Timer> RunAfter(int64_t delay_us, Task task) override;
  std::unique_ptr<Alarm> MakeAlarm(Task task) override;
  int64_t NowNanos() const override { return clock_->now_ns(); }

  // What is posted waits until then: a thread that something else keeps busy. Timers run.
  void HoldUntil(int64_t at_ns);
  bool held() const { return held_ != nullptr; }

  // Tasks that were posted and not run, and timers that have not fired and are not cancelled.
  size_t pending() const;
  // Those timers that RunAfter made: not what fakes let travel towards this executor.
  size_t own_timers() const;

  // A task of this executor is running, or none at all (the test itself).
  bool IsCurrent() const { return clock_->current() == nullptr || clock_->current() == this; }
  const std::string& name() const { return name_; }
  ManualClock* clock() const { return clock_; }

 private:
  friend class ManualClock;
  struct Posted {
    uint64_t order;
    Task task;
  };

  ManualClock* const clock_;
  const std::string name_;
  std::deque<Posted> posted_;
  std::unique_ptr<Timer> held_;  // null unless held
};

}  // namespace faultline

#endif  // FAULTLINE_TESTS_FAKES_MANUAL_EXECUTOR_H_
