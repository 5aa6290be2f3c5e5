// The life of one simulated engine process, and its sudden end.
#ifndef FAULTLINE_TESTS_SIM_LIFELINE_H_
#define FAULTLINE_TESTS_SIM_LIFELINE_H_

#include <cstdint>

#include "sim/trace.h"

namespace faultline::sim {

// Thrown through the engine where its process is killed: nothing behind that point happens any
// more. Whoever runs the clock catches it and destroys the process.
struct ProcessDied {
  Side side;
};

// Counts what the process does to the world outside it. Each of these moments can be its last one.
class Lifeline {
 public:
  // The process dies at its step number `dies_at_step`; 0: never by itself.
  Lifeline(Side side, uint64_t dies_at_step) : side_(side), dies_at_step_(dies_at_step) {}

  void Step() {
    if (++steps_ == dies_at_step_) throw ProcessDied{side_};
  }
  uint64_t steps() const { return steps_; }

 private:
  const Side side_;
  const uint64_t dies_at_step_;
  uint64_t steps_ = 0;
};

}  // namespace faultline::sim

#endif  // FAULTLINE_TESTS_SIM_LIFELINE_H_
