#include "experiments/guest.h"

#include <pthread.h>

#include <ctime>

#include "base/check.h"
#include "base/monotonic_time.h"
#include "experiments/guest_thread.h"

namespace faultline::bench::experiments {

Guest::Guest(const Point& point, const Region* region, GuestPlace place)
    : point_(point), region_(region), place_(place) {
  for (uint64_t number = 0; number < static_cast<uint64_t>(point.threads); ++number) {
    workers_.push_back(std::make_unique<GuestThread>(point, region, place, number));
  }
}

Guest::~Guest() { Stop(); }

void Guest::Start() {
  start_ns_ = MonotonicNs();
  for (const std::unique_ptr<GuestThread>& worker : workers_) {
    threads_.emplace_back([this, thread = worker.get()] { thread->Run(start_ns_, &stop_); });
  }
}

void Guest::Stop() {
  stop_ = true;
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

int64_t Guest::AgeUs() const { return (MonotonicNs() - start_ns_) / 1000; }

double Guest::CpuSeconds() {
  if (threads_.empty()) return Figures().cpu_seconds;
  double sum_s = 0;
  for (std::thread& thread : threads_) {
    clockid_t clock = 0;
    timespec used{};
    FAULTLINE_CHECK(pthread_getcpuclockid(thread.native_handle(), &clock) == 0);
    FAULTLINE_CHECK(clock_gettime(clock, &used) == 0);
    sum_s += static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) / 1e9;
  }
  return sum_s;
}

GuestFigures Guest::Figures() const {
  GuestFigures sum;
  for (const std::unique_ptr<GuestThread>& worker : workers_) {
    const GuestFigures& figures = worker->figures();
    sum.wrong_reads += figures.wrong_reads;
    sum.arrived_meanwhile += figures.arrived_meanwhile;
    sum.waited_ns.insert(sum.waited_ns.end(), figures.waited_ns.begin(), figures.waited_ns.end());
    sum.speed.Add(figures.speed);
    sum.cpu_seconds += figures.cpu_seconds;
  }
  return sum;
}

uint64_t Guest::CountWrongPages() const {
  uint64_t wrong = 0;
  for (const std::unique_ptr<GuestThread>& worker : workers_) wrong += worker->CountWrongPages();
  for (uint64_t page = point_.allocated_pages(); page < region_->pages(); ++page) {
    if (!region_->IsMissing(page)) ++wrong;
  }
  return wrong;
}

}  // namespace faultline::bench::experiments
