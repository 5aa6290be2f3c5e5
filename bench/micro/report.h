// What a side prints when its run has ended: one JSON object on one line.
#ifndef FAULTLINE_BENCH_MICRO_REPORT_H_
#define FAULTLINE_BENCH_MICRO_REPORT_H_

#include <string>

#include "micro/sides.h"

namespace faultline::bench::micro {

// Times in it are microseconds. `cpu_seconds` are those of the whole side, the touchers included.
std::string DestinationReport(const Plan& plan, const DestinationFigures& figures,
                              const StampTable& stamps, double cpu_seconds, uint64_t wrong_pages);
std::string SourceReport(double cpu_seconds);

}  // namespace faultline::bench::micro

#endif  // FAULTLINE_BENCH_MICRO_REPORT_H_
