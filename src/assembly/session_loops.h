// The three threads of one session: control (the caller of Run), demand and bulk.
#ifndef FAULTLINE_ASSEMBLY_SESSION_LOOPS_H_
#define FAULTLINE_ASSEMBLY_SESSION_LOOPS_H_

#include "runtime/loop.h"

namespace faultline {

struct SessionLoops {
  Loop control{"fl-control"};
  Loop demand{"fl-demand"};
  Loop bulk{"fl-bulk"};

  // Runs `start` on the control loop, and all three loops until the control loop is stopped.
  void RunUntilStopped(Task start) {
    demand.StartThread();
    bulk.StartThread();
    control.Post(std::move(start));
    control.Run();
    demand.Stop();
    bulk.Stop();
    demand.Join();
    bulk.Join();
  }
};

}  // namespace faultline

#endif  // FAULTLINE_ASSEMBLY_SESSION_LOOPS_H_
