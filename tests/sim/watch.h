// Where the simulation's parts report what must never happen.
#ifndef FAULTLINE_TESTS_SIM_WATCH_H_
#define FAULTLINE_TESTS_SIM_WATCH_H_

#include <string>
#include <utility>

#include "sim/trace.h"

namespace faultline::sim {

// Keeps the first breach, which ends the run: what follows it is its consequence.
class Watch {
 public:
  // `trace` outlives the watch.
  explicit Watch(Trace* trace) : trace_(trace) {}

  void Fail(std::string sentence) {
    if (failed()) return;
    breach_ = std::move(sentence);
    trace_->Note(Side::kWorld, "BREACH");
  }
  bool failed() const { return !breach_.empty(); }
  const std::string& breach() const { return breach_; }

 private:
  Trace* const trace_;
  std::string breach_;
};

}  // namespace faultline::sim

#endif  // FAULTLINE_TESTS_SIM_WATCH_H_
