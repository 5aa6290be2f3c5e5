// The synthetic guest: threads that work on the region and check what they read.
#ifndef FAULTLINE_BENCH_EXPERIMENTS_GUEST_H_
#define FAULTLINE_BENCH_EXPERIMENTS_GUEST_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "common/region.h"
#include "experiments/point.h"
#include "experiments/speed.h"

namespace faultline::bench::experiments {

class GuestThread;

enum class GuestPlace : uint8_t {
  kSource,       // writes put down what is there already, so that the memory keeps its pattern
  kDestination,  // each write leaves a value of its own behind
};

// What the guest saw.
struct GuestFigures {
  uint64_t wrong_reads = 0;
  std::vector<int64_t> waited_ns;  // touches that found their page missing and waited for it
  uint64_t arrived_meanwhile = 0;  // the same, but the page came before they could wait
  Speed speed;
  double cpu_seconds = 0;
};

// Page number p belongs to thread p mod threads. An operation chooses a page and writes the page's
// first word, or reads it and one word more. One thread, the one that made it, calls all methods.
class Guest {
 public:
  // `point` and `region` outlive this. Where pages come on demand only, the destination's guest
  // touches all that is missing after the point's time for that, then goes on.
  Guest(const Point& point, const Region* region, GuestPlace place);
  ~Guest();
  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;

  void Start();
  bool started() const { return start_ns_ != 0; }
  // Blocks until every thread has ended its operation; does nothing if none runs.
  void Stop();
  // Since Start.
  int64_t AgeUs() const;
  // CPU seconds of its threads so far, also while they run.
  double CpuSeconds();
  // After Stop.
  GuestFigures Figures() const;
  // After Stop, with all memory there: pages that hold neither what the source had nor what the
  // guest wrote, and pages that the source never allocated and that are here all the same.
  uint64_t CountWrongPages() const;

 private:
  const Point& point_;
  const Region* const region_;
  const GuestPlace place_;
  int64_t start_ns_ = 0;  // 0: not started
  std::atomic<bool> stop_{false};
  std::vector<std::unique_ptr<GuestThread>> workers_;
  std::vector<std::thread> threads_;
};

}  // namespace faultline::bench::experiments

#endif  // FAULTLINE_BENCH_EXPERIMENTS_GUEST_H_
