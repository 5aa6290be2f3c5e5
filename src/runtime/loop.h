// One thread with one libuv loop: the executor on which real parts run.
//
// Life: make it, set it going with StartThread() or Run(), end it with Stop(). Ending is in this
// order: admission stops (Post drops what comes), everything posted before Stop runs, then timers
// and watches that still exist are disarmed and the loop is closed. Timers, watches and the loop's
// users may be destroyed after that, by any one thread; they must be destroyed before the Loop
// object itself only if they call it.
#ifndef FAULTLINE_RUNTIME_LOOP_H_
#define FAULTLINE_RUNTIME_LOOP_H_

#include <uv.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_set>
#include <vector>

#include "seams/executor.h"
#include "seams/fd_poller.h"

namespace faultline {

// What a descriptor is ready for. A broken descriptor is ready for both: the system call says why.
struct FdReadiness {
  bool readable = false;
  bool writable = false;
};

// A descriptor watched for reading, writing or both. It starts with no interest. Own thread only
// (any one thread once the loop has ended). Destroying it ends the watch; its task does not run
// afterwards. The task may destroy it.
class FdWatcher {
 public:
  virtual ~FdWatcher() = default;
  // Level-triggered. After the loop has ended: does nothing.
  virtual void SetInterest(bool readable, bool writable) = 0;
};

class Loop : public Executor, public FdPoller {
 public:
  using ReadyTask = std::function<void(FdReadiness)>;

  // `name` is the thread's name too, cut to 15 bytes (StartThread only). After anything has
  // happened the loop looks for more for `poll_us` before it sleeps: whoever waits for it is spared
  // the wake-up, and a processor is kept busy meanwhile, though it is left to any thread that wants
  // it.
  explicit Loop(std::string name, int64_t poll_us = 0);
  // Stops and joins its thread; a loop that runs in Run must have returned.
  ~Loop() override;
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // Runs the loop on a thread of its own, on which every signal is blocked. Once.
  void StartThread();
  // Runs the loop on the calling thread until Stop. Once.
  void Run();
  // Ends the loop; returns at once. Any thread, also from a task. May be called again.
  void Stop();
  // Waits until the thread of StartThread has ended. Not from that thread.
  void Join();

  // The caller is the thread that runs the loop, or nobody runs it (not yet, or no more).
  bool IsOwnThread() const;

  void Post(Task task) override;
  // As Post, without its wake-up: `task` runs when what has happened by now has been served, before
  // the loop waits again. Own thread only; dropped if the loop ends first.
  void PostAfterThis(Task task);
  // Resolution 1 ms, rounded up.
  std::unique_ptr<Timer> RunAfter(int64_t delay_us, Task task) override;
  std::unique_ptr<Alarm> MakeAlarm(Task task) override;
  int64_t NowNanos() const override;
  std::unique_ptr<FdWatch> WatchReadable(int fd, Task on_readable) override;
  // As WatchReadable, for sockets. One watch for a descriptor at a time.
  std::unique_ptr<FdWatcher> Watch(int fd, ReadyTask on_ready);

  const std::string& name() const { return name_; }

 private:
  struct TimerHandle;
  struct PollHandle;
  class LoopTimer;
  class LoopAlarm;
  class LoopWatcher;
  class LoopWatch;

  void RunPolling();
  void RunPosted();
  void RunAfterThis();
  void CloseHandles();
  TimerHandle* OpenTimer(Task task, TimerHandle** owner, bool again);
  void StartTimer(TimerHandle* handle, int64_t delay_us);
  void CloseTimer(TimerHandle* handle);
  void ClosePoll(PollHandle* handle);

  // Constant after construction.
  const std::string name_;
  const int64_t poll_ns_;
  std::thread thread_;  // StartThread and Join

  // Own thread.
  uint64_t events_seen_ = 0;  // tasks, timers and readiness, for polling
  bool stopped_ = false;
  uv_loop_t loop_;
  uv_async_t wake_;
  uv_idle_t awake_;    // started while after_this_ holds something: the loop does not sleep
  uv_check_t served_;  // comes after what has happened
  std::vector<Task> after_this_;
  std::unordered_set<TimerHandle*> timers_;
  std::unordered_set<PollHandle*> polls_;
  bool closed_ = false;

  // Any thread.
  std::atomic<std::thread::id> owner_{};
  std::mutex mutex_;
  std::vector<Task> posted_;  // guarded by mutex_
  bool stopping_ = false;     // guarded by mutex_
};

}  // namespace faultline

#endif  // FAULTLINE_RUNTIME_LOOP_H_
