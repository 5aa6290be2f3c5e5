#include "fakes/manual_executor.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/check.h"
#include "fakes/timer_alarm.h"

namespace faultline {

class ManualClock::ManualTimer : public Timer {
 public:
  explicit ManualTimer(std::shared_ptr<Pending> pending) : pending_(std::move(pending)) {}
  ~ManualTimer() override {
    // The task may own what owns this timer: it goes only after the timer no longer refers to it.
    Task task = std::exchange(pending_->task, nullptr);
  }

 private:
  const std::shared_ptr<Pending> pending_;
};

void ManualClock::RunUntilIdle() {
  while (RunOnePosted()) {
  }
}

void ManualClock::AdvanceTo(int64_t now_ns) {
  FAULTLINE_CHECK(now_ns >= now_ns_);
  RunUntilIdle();
  while (RunOneTimer(now_ns)) RunUntilIdle();
  now_ns_ = now_ns;
}

bool ManualClock::RunUntil(const std::function<bool()>& done, int64_t limit_us) {
  int64_t limit_ns = now_ns_ + limit_us * 1000;
  while (!done()) {
    if (!RunOnePosted() && !RunOneTimer(limit_ns)) return done();
  }
  return true;
}

std::unique_ptr<Timer> ManualClock::Schedule(ManualExecutor* executor, int64_t at_ns, Task task) {
  return Add(at_ns, {executor, std::move(task), /*own=*/false});
}

std::unique_ptr<Timer> ManualClock::Add(int64_t at_ns, Pending pending) {
  auto shared = std::make_shared<Pending>(std::move(pending));
  timers_.emplace(at_ns, shared);
  return std::make_unique<ManualTimer>(std::move(shared));
}

void ManualClock::Remove(ManualExecutor* executor) {
  std::erase(executors_, executor);
  std::erase_if(timers_, [&](const auto& entry) { return entry.second->executor == executor; });
}

bool ManualClock::RunOnePosted() {
  ready_.clear();
  for (ManualExecutor* executor : executors_) {
    if (!executor->posted_.empty() && executor->held_ == nullptr) ready_.push_back(executor);
  }
  if (ready_.empty()) return false;
  ManualExecutor* next = ready_.front();
  if (seeded_ && ready_.size() > 1) {
    next = ready_[random_() % ready_.size()];
  } else if (ready_.size() > 1) {
    next = *std::min_element(ready_.begin(), ready_.end(), [](auto* a, auto* b) {
      return a->posted_.front().order < b->posted_.front().order;
    });
  }
  Task task = std::move(next->posted_.front().task);
  next->posted_.pop_front();
  RunAs(next, task);
  return true;
}

bool ManualClock::RunOneTimer(int64_t limit_ns) {
  while (!timers_.empty() && timers_.begin()->first <= limit_ns) {
    auto [at_ns, pending] = *timers_.begin();
    timers_.erase(timers_.begin());
    if (!pending->task) continue;
    now_ns_ = std::max(now_ns_, at_ns);
    Task task = std::exchange(pending->task, nullptr);
    RunAs(pending->executor, task);
    return true;
  }
  return false;
}

void ManualClock::RunAs(ManualExecutor* executor, const Task& task) {
  struct Restore {
    const ManualExecutor** current;
    const ManualExecutor* outer;
    ~Restore() { *current = outer; }
  } restore{&current_, std::exchange(current_, executor)};
  task();
}

ManualExecutor::ManualExecutor(ManualClock* clock, std::string name)
    : clock_(clock), name_(std::move(name)) {
  clock_->executors_.push_back(this);
}

ManualExecutor::~ManualExecutor() {
  clock_->Remove(this);
  // A dropped task may own what posts once more while it goes.
  while (!posted_.empty()) {
    Task task = std::move(posted_.front().task);
    posted_.pop_front();
  }
}

void ManualExecutor::Post(Task task) { posted_.push_back({clock_->posts_++, std::move(task)}); }

size_t ManualExecutor::pending() const {
  const auto timers =
      std::count_if(clock_->timers_.begin(), clock_->timers_.end(), [this](const auto& entry) {
        return entry.second->executor == this && entry.second->task != nullptr;
      });
  return posted_.size() + static_cast<size_t>(timers) - (held() ? 1 : 0);
}

size_t ManualExecutor::own_timers() const {
  return static_cast<size_t>(
      std::count_if(clock_->timers_.begin(), clock_->timers_.end(), [this](const auto& entry) {
        return entry.second->executor == this && entry.second->own && entry.second->task != nullptr;
      }));
}

void ManualExecutor::HoldUntil(int64_t at_ns) {
  held_ = clock_->Schedule(this, at_ns, [this] { held_.reset(); });
}

std::unique_ptr<Timer> ManualExecutor::RunAfter(int64_t delay_us, Task task) {
  FAULTLINE_CHECK(IsCurrent());
  return clock_->Add(clock_->now_ns() + std::max<int64_t>(delay_us, 0) * 1000,
                     {this, std::move(task), /*own=*/true});
}

std::unique_ptr<Alarm> ManualExecutor::MakeAlarm(Task task) {
  return std::make_unique<TimerAlarm>(this, std::move(task));
}

}  // namespace faultline
