// One thread of the synthetic guest, and the pages that belong to it.
#ifndef FAULTLINE_BENCH_EXPERIMENTS_GUEST_THREAD_H_
#define FAULTLINE_BENCH_EXPERIMENTS_GUEST_THREAD_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "common/region.h"
#include "experiments/access_pattern.h"
#include "experiments/guest.h"
#include "experiments/point.h"
#include "experiments/random.h"

namespace faultline::bench::experiments {

// Run on its own thread; the rest before it starts or after it has ended.
class GuestThread {
 public:
  // Thread `number` of `point.threads`. `point` and `region` outlive this.
  GuestThread(const Point& point, const Region* region, GuestPlace place, uint64_t number);

  // Works from `start_ns` until `stop` is set.
  void Run(int64_t start_ns, const std::atomic<bool>* stop);

  const GuestFigures& figures() const { return figures_; }
  // Of its pages, those that do not hold what they should.
  uint64_t CountWrongPages() const;

 private:
  uint64_t PageOf(uint64_t index) const { return index * threads_ + number_; }
  // What the source's memory held there.
  uint64_t Word(uint64_t page, uint64_t word) const {
    return PatternWord(page, word / point_.word_repeats);
  }
  // What the page's first word holds after so many writes.
  static uint64_t FirstWord(uint64_t page, uint64_t writes) {
    return PatternWord(page, 0) ^ (writes * 0xd6e8feb86659fd93u);
  }
  // Touches a page and checks what it reads. Returns when it ended.
  int64_t Operate();
  // The operation on a page whose number in this thread is `index`.
  void Touch(uint64_t index, bool write);
  // Touches what it has not touched yet, so that no page of its own is missing any more.
  void TouchTheRest(const std::atomic<bool>* stop);

  const Point& point_;
  const Region* const region_;
  const GuestPlace place_;
  const uint64_t threads_;
  const uint64_t number_;
  const std::unique_ptr<AccessPattern> pattern_;
  Random random_;
  std::vector<uint32_t> writes_;  // by index, of the pages that it works on
  std::vector<bool> touched_;     // the same
  GuestFigures figures_;
};

}  // namespace faultline::bench::experiments

#endif  // FAULTLINE_BENCH_EXPERIMENTS_GUEST_THREAD_H_
