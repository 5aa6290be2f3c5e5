#include "fakes/poll_loop.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "base/check.h"
#include "fakes/timer_alarm.h"

namespace faultline {

class PollLoop::Watch : public FdWatch {
 public:
  Watch(PollLoop* loop, int fd, Task task) : loop_(loop), fd_(fd), task_(std::move(task)) {
    loop_->watches_.push_back(this);
  }
  ~Watch() override { loop_->watches_.remove(this); }
  int fd() const { return fd_; }
  Task task() const { return task_; }

 private:
  PollLoop* const loop_;
  const int fd_;
  const Task task_;
};

class PollLoop::PendingTimer : public Timer {
 public:
  PendingTimer(PollLoop* loop, int64_t due_nanos, Task task)
      : loop_(loop), due_nanos_(due_nanos), task_(std::move(task)) {
    loop_->timers_.push_back(this);
  }
  ~PendingTimer() override { loop_->timers_.remove(this); }
  bool due() const { return task_ != nullptr && loop_->NowNanos() >= due_nanos_; }
  Task Take() { return std::exchange(task_, nullptr); }

 private:
  PollLoop* const loop_;
  const int64_t due_nanos_;
  Task task_;
};

PollLoop::PollLoop() : wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  FAULTLINE_CHECK(wake_.valid());
}

PollLoop::~PollLoop() { FAULTLINE_CHECK(watches_.empty()); }

void PollLoop::Post(Task task) {
  {
    std::lock_guard lock(mutex_);
    posted_.push_back(std::move(task));
  }
  uint64_t one = 1;
  FAULTLINE_CHECK(write(wake_.get(), &one, sizeof(one)) == sizeof(one));
}

std::unique_ptr<Timer> PollLoop::RunAfter(int64_t delay_us, Task task) {
  return std::make_unique<PendingTimer>(this, NowNanos() + delay_us * 1000, std::move(task));
}

std::unique_ptr<Alarm> PollLoop::MakeAlarm(Task task) {
  return std::make_unique<TimerAlarm>(this, std::move(task));
}

int64_t PollLoop::NowNanos() const {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

std::unique_ptr<FdWatch> PollLoop::WatchReadable(int fd, Task on_readable) {
  return std::make_unique<Watch>(this, fd, std::move(on_readable));
}

bool PollLoop::RunUntil(const std::function<bool()>& done, int timeout_ms) {
  int64_t deadline_nanos = NowNanos() + int64_t{timeout_ms} * 1000000;
  while (!done()) {
    if (NowNanos() >= deadline_nanos) return false;
    Turn(5);
  }
  return true;
}

void PollLoop::RunFor(int duration_ms) {
  RunUntil([] { return false; }, duration_ms);
}

void PollLoop::Turn(int wait_ms) {
  std::vector<pollfd> polled = {{.fd = wake_.get(), .events = POLLIN, .revents = 0}};
  std::vector<Watch*> watches(watches_.begin(), watches_.end());
  for (Watch* watch : watches) polled.push_back({watch->fd(), POLLIN, 0});
  poll(polled.data(), polled.size(), wait_ms);

  uint64_t count;
  while (read(wake_.get(), &count, sizeof(count)) > 0) {
  }
  std::vector<Task> posted;
  {
    std::lock_guard lock(mutex_);
    posted.swap(posted_);
  }
  for (Task& task : posted) task();
  for (size_t i = 0; i < watches.size(); ++i) {
    // An earlier task may have ended this watch.
    bool alive = std::find(watches_.begin(), watches_.end(), watches[i]) != watches_.end();
    if (alive && polled[i + 1].revents != 0) watches[i]->task()();
  }
  for (;;) {
    auto timer = std::find_if(timers_.begin(), timers_.end(),
                              [](const PendingTimer* pending) { return pending->due(); });
    if (timer == timers_.end()) return;
    (*timer)->Take()();
  }
}

}  // namespace faultline
