// The sentences and figures that a person reads. Pure.
#ifndef FAULTLINE_CLI_REPORT_TEXT_H_
#define FAULTLINE_CLI_REPORT_TEXT_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "cli/report_json.h"

namespace faultline {

// "38 us", "12.3 ms", "5.32 s", "3 min 05 s".
std::string FormatDuration(uint64_t duration_us);
// "1,234,567".
std::string FormatCount(uint64_t count);

// How fast a migration goes, over the last two seconds or so.
class ProgressEstimator {
 public:
  void Add(const ProgressSnapshot& snapshot);
  std::optional<uint64_t> bytes_per_second() const;
  // Until nothing is missing; none before the post-copy phase or while nothing moves.
  std::optional<uint64_t> remaining_us() const;

 private:
  std::deque<ProgressSnapshot> window_;
};

// "post-copy  63.2% present  112.0 MiB/s  1,204 faults  ETA 12.0 s".
std::string ProgressLine(const ProgressSnapshot& snapshot, const ProgressEstimator& estimator);
// What a phase means for the VM: "preparing (the VM runs on the source)".
std::string PhaseSentence(Phase phase);
// How it ended: where the VM is, and the figures. Several lines, without the last line end.
std::string Summary(const Outcome& outcome);
// Why it failed, whose the VM is and what to do. Several lines, without the last line end.
std::string FailureText(const Outcome& outcome);

}  // namespace faultline

#endif  // FAULTLINE_CLI_REPORT_TEXT_H_
