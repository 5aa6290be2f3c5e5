// CPU time of the engine alone, in a process where the guest computes as well.
#ifndef FAULTLINE_BENCH_EXPERIMENTS_ENGINE_CPU_H_
#define FAULTLINE_BENCH_EXPERIMENTS_ENGINE_CPU_H_

#include "common/cpu_time.h"
#include "experiments/guest.h"

namespace faultline::bench::experiments {

class EngineCpu {
 public:
  // Counts from now on. `guest` outlives this.
  explicit EngineCpu(Guest* guest) : guest_(guest), begin_seconds_(Now()) {}
  double Seconds() const { return Now() - begin_seconds_; }

 private:
  double Now() const { return ProcessCpuSeconds() - guest_->CpuSeconds(); }

  Guest* const guest_;
  const double begin_seconds_;
};

}  // namespace faultline::bench::experiments

#endif  // FAULTLINE_BENCH_EXPERIMENTS_ENGINE_CPU_H_
