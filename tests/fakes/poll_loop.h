// An executor and poller for tests: runs on the thread that calls Run.
#ifndef FAULTLINE_TESTS_FAKES_POLL_LOOP_H_
#define FAULTLINE_TESTS_FAKES_POLL_LOOP_H_

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <vector>

#include "base/file_descriptor.h"
#include "seams/executor.h"
#include "seams/fd_poller.h"

namespace faultline {

// Post from any thread; all else on one thread.
class PollLoop : public Executor, public FdPoller {
 public:
  PollLoop();
  ~PollLoop() override;

  void Post(Task task) override;
  std::unique_ptr<Timer> RunAfter(int64_t delay_us, Task task) override;
  std::unique_ptr<Alarm> MakeAlarm(Task task) override;
  int64_t NowNanos() const override;
  std::unique_ptr<FdWatch> WatchReadable(int fd, Task on_readable) override;

  // Runs tasks, timers and watches until `done` says so; false if `timeout_ms` passed first.
  bool RunUntil(const std::function<bool()>& done, int timeout_ms = 10000);
  // Runs for that long.
  void RunFor(int duration_ms);

 private:
  class Watch;
  class PendingTimer;

  // Runs what is ready, waiting for it at most `wait_ms`.
  void Turn(int wait_ms);

  FileDescriptor wake_;  // an eventfd
  std::mutex mutex_;
  std::vector<Task> posted_;  // guarded by mutex_
  std::list<Watch*> watches_;
  std::list<PendingTimer*> timers_;
};

}  // namespace faultline

#endif  // FAULTLINE_TESTS_FAKES_POLL_LOOP_H_
