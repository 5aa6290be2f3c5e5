#include "micro/touchers.h"

#include <algorithm>
#include <numeric>
#include <random>

#include "base/monotonic_time.h"
#include "common/cpu_time.h"

namespace faultline::bench::micro {

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

}  // namespace faultline::bench::micro
