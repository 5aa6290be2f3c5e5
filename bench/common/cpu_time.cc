#include "common/cpu_time.h"

#include <sys/resource.h>

#include "base/monotonic_time.h"

namespace faultline::bench {
namespace {

double CpuSecondsOf(int who) {
  rusage usage{};
  getrusage(who, &usage);
  auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

}  // namespace

double ThreadCpuSeconds() { return CpuSecondsOf(RUSAGE_THREAD); }
double ProcessCpuSeconds() { return CpuSecondsOf(RUSAGE_SELF); }

void Think(int64_t think_us) {
  const int64_t until_ns = MonotonicNs() + think_us * 1000;
  while (MonotonicNs() < until_ns) {
  }
}

}  // namespace faultline::bench
