// What computing costs, and a guest that computes.
#ifndef FAULTLINE_BENCH_COMMON_CPU_TIME_H_
#define FAULTLINE_BENCH_COMMON_CPU_TIME_H_

#include <cstdint>

namespace faultline::bench {

// CPU seconds of the calling thread or of the whole process so far, in user and kernel mode.
double ThreadCpuSeconds();
double ProcessCpuSeconds();

// A guest between two touches computes; it does not sleep.
void Think(int64_t think_us);

}  // namespace faultline::bench

#endif  // FAULTLINE_BENCH_COMMON_CPU_TIME_H_
