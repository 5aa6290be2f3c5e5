#include "runtime/loop.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace faultline {
namespace {

// A peer that is about to answer does so within this; then other threads may have the processor.
constexpr int64_t kPollAloneNs = 8'000;

}  // namespace

// The handles live on the heap until libuv has closed them, which may be after the object that the
// user holds has gone; each knows the other.
struct Loop::TimerHandle {
  uv_timer_t uv;
  Loop* loop;
  TimerHandle** owner;  // what it holds of this
  Task task;
  bool again;  // an alarm's: stays when it has fired
};

struct Loop::PollHandle {
  uv_poll_t uv;
  Loop* loop;
  LoopWatcher* owner;
  ReadyTask on_ready;
};

class Loop::LoopTimer : public Timer {
 public:
  LoopTimer(Loop* loop, int64_t delay_us, Task task) {
    if (loop->closed_) return;
    handle_ = loop->OpenTimer(std::move(task), &handle_, /*again=*/false);
    loop->StartTimer(handle_, delay_us);
  }
  ~LoopTimer() override {
    if (handle_ != nullptr) handle_->loop->CloseTimer(handle_);
  }

 private:
  TimerHandle* handle_ = nullptr;  // null once it has fired or the loop has ended
};

class Loop::LoopAlarm : public Alarm {
 public:
  LoopAlarm(Loop* loop, Task task) {
    if (!loop->closed_) handle_ = loop->OpenTimer(std::move(task), &handle_, /*again=*/true);
  }
  ~LoopAlarm() override {
    if (handle_ != nullptr) handle_->loop->CloseTimer(handle_);
  }
  void Set(int64_t delay_us) override {
    if (handle_ != nullptr) handle_->loop->StartTimer(handle_, delay_us);
  }
  void Clear() override {
    if (handle_ == nullptr) return;
    FAULTLINE_CHECK(handle_->loop->IsOwnThread());
    uv_timer_stop(&handle_->uv);
  }
  bool is_set() const override {
    return handle_ != nullptr && uv_is_active(reinterpret_cast<uv_handle_t*>(&handle_->uv)) != 0;
  }

 private:
  TimerHandle* handle_ = nullptr;  // null once the loop has ended
};

class Loop::LoopWatcher : public FdWatcher {
 public:
  explicit LoopWatcher(PollHandle* handle) : handle_(handle) {}
  ~LoopWatcher() override {
    if (handle_ != nullptr) handle_->loop->ClosePoll(handle_);
  }
  void Forget() { handle_ = nullptr; }

  void SetInterest(bool readable, bool writable) override {
    if (handle_ == nullptr) return;
    FAULTLINE_CHECK(handle_->loop->IsOwnThread());
    int events = (readable ? UV_READABLE : 0) | (writable ? UV_WRITABLE : 0);
    if (events == events_) return;
    events_ = events;
    Arm();
  }

 private:
  static void OnReady(uv_poll_t* uv, int status, int ready) {
    auto* handle = static_cast<PollHandle*>(uv->data);
    ++handle->loop->events_seen_;
    bool broken = status < 0;
    // libuv ends the watch of a descriptor in error; ours goes on until its owner has seen why.
    if (broken) handle->owner->Arm();
    handle->on_ready({broken || (ready & UV_READABLE) != 0, broken || (ready & UV_WRITABLE) != 0});
  }

  void Arm() {
    if (events_ == 0) {
      uv_poll_stop(&handle_->uv);
    } else {
      FAULTLINE_CHECK(uv_poll_start(&handle_->uv, events_, OnReady) == 0);
    }
  }

  PollHandle* handle_;
  int events_ = 0;
};

class Loop::LoopWatch : public FdWatch {
 public:
  explicit LoopWatch(std::unique_ptr<FdWatcher> watcher) : watcher_(std::move(watcher)) {
    watcher_->SetInterest(true, false);
  }

 private:
  const std::unique_ptr<FdWatcher> watcher_;
};

Loop::Loop(std::string name, int64_t poll_us)
    : name_(std::move(name)), poll_ns_(std::max<int64_t>(poll_us, 0) * 1000) {
  FAULTLINE_CHECK(uv_loop_init(&loop_) == 0);
  wake_.data = this;
  FAULTLINE_CHECK(uv_async_init(&loop_, &wake_, [](uv_async_t* uv) {
                    static_cast<Loop*>(uv->data)->RunPosted();
                  }) == 0);
  served_.data = this;
  FAULTLINE_CHECK(uv_idle_init(&loop_, &awake_) == 0);
  FAULTLINE_CHECK(uv_check_init(&loop_, &served_) == 0);
}

Loop::~Loop() {
  Stop();
  Join();
  FAULTLINE_CHECK(owner_.load() == std::thread::id());
  if (!closed_) CloseHandles();  // it never ran
  FAULTLINE_CHECK(uv_loop_close(&loop_) == 0);
}

void Loop::StartThread() {
  FAULTLINE_CHECK(!thread_.joinable());
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), name_.substr(0, 15).c_str());
    // The program's signals are none of this thread's.
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, nullptr);
    Run();
  });
}

void Loop::Run() {
  FAULTLINE_CHECK(!closed_ && owner_.load() == std::thread::id());
  owner_.store(std::this_thread::get_id());
  if (poll_ns_ > 0) {
    RunPolling();
  } else {
    uv_run(&loop_, UV_RUN_DEFAULT);
  }
  CloseHandles();
  owner_.store(std::thread::id());
}

void Loop::RunPolling() {
  while (!stopped_) {
    uv_run(&loop_, UV_RUN_ONCE);  // sleeps until something happens
    int64_t last_event_ns = NowNanos();
    int64_t quiet_ns = 0;
    while (!stopped_ && quiet_ns < poll_ns_) {
      const uint64_t seen = events_seen_;
      uv_run(&loop_, UV_RUN_NOWAIT);
      const int64_t now_ns = NowNanos();
      if (events_seen_ != seen) last_event_ns = now_ns;
      quiet_ns = now_ns - last_event_ns;
      if (quiet_ns > kPollAloneNs) sched_yield();
    }
  }
}

void Loop::Stop() {
  std::lock_guard lock(mutex_);
  if (stopping_) return;
  stopping_ = true;
  uv_async_send(&wake_);
}

void Loop::Join() {
  if (!thread_.joinable()) return;
  FAULTLINE_CHECK(thread_.get_id() != std::this_thread::get_id());
  thread_.join();
}

bool Loop::IsOwnThread() const {
  std::thread::id owner = owner_.load();
  return owner == std::this_thread::get_id() || owner == std::thread::id();
}

void Loop::Post(Task task) {
  std::lock_guard lock(mutex_);
  if (stopping_) return;
  // One wake-up serves all that is posted until the loop swaps the queue out.
  if (posted_.empty()) uv_async_send(&wake_);
  posted_.push_back(std::move(task));
}

void Loop::PostAfterThis(Task task) {
  FAULTLINE_CHECK(IsOwnThread());
  if (closed_) return;
  if (after_this_.empty()) {
    uv_idle_start(&awake_, [](uv_idle_t*) {});
    uv_check_start(&served_, [](uv_check_t* uv) { static_cast<Loop*>(uv->data)->RunAfterThis(); });
  }
  after_this_.push_back(std::move(task));
}

void Loop::RunAfterThis() {
  std::vector<Task> tasks;
  tasks.swap(after_this_);
  uv_idle_stop(&awake_);
  uv_check_stop(&served_);
  ++events_seen_;
  for (Task& task : tasks) {
    task();
    task = nullptr;
  }
}

void Loop::RunPosted() {
  std::vector<Task> tasks;
  bool stopping = false;
  {
    std::lock_guard lock(mutex_);
    tasks.swap(posted_);
    stopping = stopping_;
  }
  ++events_seen_;
  for (Task& task : tasks) {
    task();
    task = nullptr;  // what it owns goes now, not after its successors
  }
  if (!stopping) return;
  stopped_ = true;
  uv_stop(&loop_);
}

std::unique_ptr<Timer> Loop::RunAfter(int64_t delay_us, Task task) {
  FAULTLINE_CHECK(IsOwnThread());
  return std::make_unique<LoopTimer>(this, delay_us, std::move(task));
}

std::unique_ptr<Alarm> Loop::MakeAlarm(Task task) {
  FAULTLINE_CHECK(IsOwnThread());
  return std::make_unique<LoopAlarm>(this, std::move(task));
}

Loop::TimerHandle* Loop::OpenTimer(Task task, TimerHandle** owner, bool again) {
  auto* handle = new TimerHandle{{}, this, owner, std::move(task), again};
  FAULTLINE_CHECK(uv_timer_init(&loop_, &handle->uv) == 0);
  handle->uv.data = handle;
  timers_.insert(handle);
  return handle;
}

void Loop::StartTimer(TimerHandle* handle, int64_t delay_us) {
  FAULTLINE_CHECK(IsOwnThread());
  // libuv counts whole milliseconds and rounds down; "not earlier than" is counted from the real
  // time up.
  uv_update_time(&loop_);
  uint64_t due_ns = static_cast<uint64_t>(NowNanos() + std::max<int64_t>(delay_us, 0) * 1000);
  uint64_t delay_ms = (due_ns + 999'999) / 1'000'000 - uv_now(&loop_);
  auto fire = [](uv_timer_t* uv) {
    auto* fired = static_cast<TimerHandle*>(uv->data);
    ++fired->loop->events_seen_;
    if (fired->again) return fired->task();
    Task due = std::move(fired->task);
    fired->loop->CloseTimer(fired);
    due();
  };
  FAULTLINE_CHECK(uv_timer_start(&handle->uv, fire, delay_ms, 0) == 0);
}

int64_t Loop::NowNanos() const { return static_cast<int64_t>(uv_hrtime()); }

std::unique_ptr<FdWatch> Loop::WatchReadable(int fd, Task on_readable) {
  return std::make_unique<LoopWatch>(
      Watch(fd, [task = std::move(on_readable)](FdReadiness) { task(); }));
}

std::unique_ptr<FdWatcher> Loop::Watch(int fd, ReadyTask on_ready) {
  FAULTLINE_CHECK(IsOwnThread());
  if (closed_) return std::make_unique<LoopWatcher>(nullptr);
  auto* handle = new PollHandle{{}, this, nullptr, std::move(on_ready)};
  FAULTLINE_CHECK(uv_poll_init(&loop_, &handle->uv, fd) == 0);
  handle->uv.data = handle;
  polls_.insert(handle);
  auto watcher = std::make_unique<LoopWatcher>(handle);
  handle->owner = watcher.get();
  return watcher;
}

void Loop::CloseTimer(TimerHandle* handle) {
  FAULTLINE_CHECK(IsOwnThread());
  *handle->owner = nullptr;
  timers_.erase(handle);
  uv_close(reinterpret_cast<uv_handle_t*>(&handle->uv),
           [](uv_handle_t* uv) { delete static_cast<TimerHandle*>(uv->data); });
}

void Loop::ClosePoll(PollHandle* handle) {
  FAULTLINE_CHECK(IsOwnThread());
  handle->owner->Forget();
  polls_.erase(handle);
  uv_close(reinterpret_cast<uv_handle_t*>(&handle->uv),
           [](uv_handle_t* uv) { delete static_cast<PollHandle*>(uv->data); });
}

void Loop::CloseHandles() {
  closed_ = true;
  while (!timers_.empty()) CloseTimer(*timers_.begin());
  while (!polls_.empty()) ClosePoll(*polls_.begin());
  after_this_.clear();
  uv_close(reinterpret_cast<uv_handle_t*>(&awake_), nullptr);
  uv_close(reinterpret_cast<uv_handle_t*>(&served_), nullptr);
  uv_close(reinterpret_cast<uv_handle_t*>(&wake_), nullptr);
  uv_run(&loop_, UV_RUN_DEFAULT);
}

}  // namespace faultline
