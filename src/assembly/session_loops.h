// The three threads of one session: control (the caller of Run), demand and bulk.
#ifndef FAULTLINE_ASSEMBLY_SESSION_LOOPS_H_
#define FAULTLINE_ASSEMBLY_SESSION_LOOPS_H_

#include <cstdint>
#include <utility>

#include "engine/session_report.h"
#include "runtime/loop.h"

namespace faultline {

struct SessionLoops {
  explicit SessionLoops(int64_t demand_poll_us) : demand("fl-demand", demand_poll_us) {}

  Loop control{"fl-control"};
  Loop demand;
  Loop bulk{"fl-bulk"};

  // Starts an engine's session and runs all three loops until it has ended.
  template <typename EngineSession>
  SessionResult Run(EngineSession* session) {
    SessionResult result;
    demand.StartThread();
    bulk.StartThread();
    control.Post([this, session, &result] {
      session->Start([this, &result](SessionResult ended) {
        result = std::move(ended);
        control.Stop();
      });
    });
    control.Run();
    demand.Stop();
    bulk.Stop();
    demand.Join();
    bulk.Join();
    return result;
  }
};

}  // namespace faultline

#endif  // FAULTLINE_ASSEMBLY_SESSION_LOOPS_H_
