// An executor for tests: one real thread and its queue.
#ifndef FAULTLINE_TESTS_SUPPORT_THREAD_EXECUTOR_H_
#define FAULTLINE_TESTS_SUPPORT_THREAD_EXECUTOR_H_

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "base/check.h"
#include "seams/executor.h"

namespace faultline {

// Has no timers. Tasks that are left when it is destroyed do not run.
class ThreadExecutor : public Executor {
 public:
  ThreadExecutor() : thread_([this] { Work(); }) {}
  ~ThreadExecutor() override {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }

  void Post(Task task) override {
    {
      std::lock_guard lock(mutex_);
      tasks_.push_back(std::move(task));
    }
    wake_.notify_one();
  }
  std::unique_ptr<Timer> RunAfter(int64_t, Task) override {
    FAULTLINE_CHECK(false);
    return nullptr;
  }
  int64_t NowNanos() const override {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }
  // Runs `task` there and waits for its end. Not from the executor's own thread.
  void RunAndWait(const Task& task) {
    std::mutex done_mutex;
    std::condition_variable done;
    bool ran = false;
    Post([&] {
      task();
      std::lock_guard lock(done_mutex);
      ran = true;
      done.notify_one();
    });
    std::unique_lock lock(done_mutex);
    done.wait(lock, [&] { return ran; });
  }

 private:
  void Work() {
    while (true) {
      Task task;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
        if (stopping_) return;
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
      task();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Task> tasks_;  // guarded by mutex_
  bool stopping_ = false;   // guarded by mutex_
  std::thread thread_;
};

}  // namespace faultline

#endif  // FAULTLINE_TESTS_SUPPORT_THREAD_EXECUTOR_H_
