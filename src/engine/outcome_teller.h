// Tells a destination that the VM stays with the source, on a new connection, after the first one
// was lost.
#ifndef FAULTLINE_ENGINE_OUTCOME_TELLER_H_
#define FAULTLINE_ENGINE_OUTCOME_TELLER_H_

#include <functional>
#include <memory>

#include "engine/lifetime_guard.h"
#include "engine/session_limits.h"
#include "seams/executor.h"
#include "seams/transport.h"

namespace faultline {

// Tries again until the destination has answered with Goodbye, or the tries are used up.
//
// Thread safety: lives on the control executor's thread.
class OutcomeTeller : public ControlChannel::Listener {
 public:
  // `told`: the destination has answered.
  using Done = std::function<void(bool told)>;

  // `executor` and `transport` outlive it. `hello` has the role kOutcome; `outcome` is a PeerError.
  OutcomeTeller(Executor* executor, SourceTransport* transport, const SessionLimits& limits,
                const Hello& hello, PeerError outcome);

  // `done` runs once, later, unless this is destroyed before (but not from within `done`).
  void Start(Done done);

  void OnMessage(Message message) override;
  void OnChannelClosed(absl::Status reason) override;

 private:
  void Try();
  void OnConnected(absl::StatusOr<std::unique_ptr<ControlChannel>> channel);
  void TryAgain();
  void Finish(bool told);

  Executor* const executor_;
  SourceTransport* const transport_;
  const SessionLimits limits_;
  const Hello hello_;
  const PeerError outcome_;
  Done done_;  // empty once called
  int tries_ = 0;
  std::unique_ptr<ControlChannel> channel_;
  std::unique_ptr<Timer> timer_;
  LifetimeGuard guard_;
};

}  // namespace faultline

#endif  // FAULTLINE_ENGINE_OUTCOME_TELLER_H_
