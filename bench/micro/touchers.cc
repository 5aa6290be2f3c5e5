#include "micro/touchers.h"

#include <sys/resource.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "base/monotonic_time.h"

namespace faultline::micro {
namespace {

double CpuSecondsOf(int who) {
  rusage usage{};
  getrusage(who, &usage);
  auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// A guest between two touches computes; it does not sleep.
void Think(int64_t think_us) {
  const int64_t until_ns = MonotonicNs() + think_us * 1000;
  while (MonotonicNs() < until_ns) {
  }
}

}  // namespace

double ThreadCpuSeconds() { return CpuSecondsOf(RUSAGE_THREAD); }
double ProcessCpuSeconds() { return CpuSecondsOf(RUSAGE_SELF); }

Touchers::Touchers(const Plan& plan, const Region* region, StampTable* stamps)
    : plan_(plan), region_(region), stamps_(stamps), order_(region->pages()) {
  std::iota(order_.begin(), order_.end(), 0);
  // The same order in every run, so that runs compare.
  if (!plan.sequential) std::shuffle(order_.begin(), order_.end(), std::mt19937_64(1));
}

void Touchers::Start() {
  for (int i = 0; i < plan_.touchers; ++i) {
    threads_.emplace_back([this, i] { Run(static_cast<size_t>(i)); });
  }
}

void Touchers::Join() {
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void Touchers::Run(size_t toucher) {
  for (size_t i = toucher; i < order_.size(); i += static_cast<size_t>(plan_.touchers)) {
    const uint64_t page = order_[i];
    if (!region_->IsMissing(page)) continue;
    FaultStamps& stamp = (*stamps_)[page];
    stamp.touched_ns = MonotonicNs();
    static_cast<void>(*reinterpret_cast<volatile std::byte*>(region_->page(page)));
    stamp.woken_ns = MonotonicNs();
    if (plan_.think_us > 0) Think(plan_.think_us);
  }
  cpu_us_ += static_cast<int64_t>(ThreadCpuSeconds() * 1e6);
}

}  // namespace faultline::micro
