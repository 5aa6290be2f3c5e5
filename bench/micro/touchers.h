// The guest of a run: threads that touch missing pages and take the time.
#ifndef FAULTLINE_BENCH_MICRO_TOUCHERS_H_
#define FAULTLINE_BENCH_MICRO_TOUCHERS_H_

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "common/region.h"
#include "micro/plan.h"
#include "micro/stamps.h"

namespace faultline::bench::micro {

// Every page is visited once, by one toucher; a page that is there already is passed over.
class Touchers {
 public:
  // All arguments outlive this.
  Touchers(const Plan& plan, const Region* region, StampTable* stamps);
  ~Touchers() { Join(); }
  Touchers(const Touchers&) = delete;
  Touchers& operator=(const Touchers&) = delete;

  // Any thread, once.
  void Start();
  // Waits until every page has been visited.
  void Join();
  // CPU seconds of the touching threads; after Join.
  double cpu_seconds() const { return static_cast<double>(cpu_us_.load()) / 1e6; }

 private:
  void Run(size_t toucher);

  const Plan& plan_;
  const Region* const region_;
  StampTable* const stamps_;
  std::vector<uint32_t> order_;
  std::vector<std::thread> threads_;
  std::atomic<int64_t> cpu_us_{0};
};

}  // namespace faultline::bench::micro

#endif  // FAULTLINE_BENCH_MICRO_TOUCHERS_H_
