// Where work runs: one executor is one thread's queue (a libuv loop; in simulation, a virtual one).
#ifndef FAULTLINE_SEAMS_EXECUTOR_H_
#define FAULTLINE_SEAMS_EXECUTOR_H_

#include <cstdint>
#include <functional>
#include <memory>

namespace faultline {

using Task = std::function<void()>;

// A pending timer. Destroying it cancels it; its task will then not run. Own thread only.
class Timer {
 public:
  virtual ~Timer() = default;
};

// A timer that is set again and again. Destroying it clears it; its own task must not do that. Own
// thread only.
class Alarm {
 public:
  virtual ~Alarm() = default;
  // Its task runs once, as with RunAfter; what it was set to before counts no more.
  virtual void Set(int64_t delay_us) = 0;
  virtual void Clear() = 0;
  // Its task is still to run.
  virtual bool is_set() const = 0;
};

class Executor {
 public:
  virtual ~Executor() = default;
  // Runs `task` on this executor's thread, after what was posted before. Any thread.
  virtual void Post(Task task) = 0;
  // Runs `task` once, at the earliest after `delay_us` (rounded up to the executor's resolution,
  // 1 ms at worst). Own thread only.
  virtual std::unique_ptr<Timer> RunAfter(int64_t delay_us, Task task) = 0;
  // Not set. For what must not allocate when it waits. Own thread only.
  virtual std::unique_ptr<Alarm> MakeAlarm(Task task) = 0;
  // A monotonic clock in nanoseconds; the same for all executors of a process. Any thread.
  virtual int64_t NowNanos() const = 0;
};

}  // namespace faultline

#endif  // FAULTLINE_SEAMS_EXECUTOR_H_
