// Gives signs of life and notices when the peer gives none.
//
// Thread safety: lives on the control executor's thread.
#ifndef FAULTLINE_ENGINE_PEER_WATCH_H_
#define FAULTLINE_ENGINE_PEER_WATCH_H_

#include <functional>
#include <memory>

#include "seams/control_channel.h"
#include "seams/executor.h"

namespace faultline {

// Only time in which this side was awake counts as the peer's silence: after this host stood still
// for a while, what the peer sent meanwhile is read before anybody is called dead.
class PeerWatch {
 public:
  using Silent = std::function<void(int64_t silent_us)>;

  // `channel` and `executor` outlive the watch. `silent` is called once.
  PeerWatch(Executor* executor, ControlChannel* channel, int64_t heartbeat_interval_us,
            int64_t silence_max_us, Silent silent);

  // Something came from the peer.
  void NoteReceived();
  // Changes the limit; silence counts anew.
  void SetSilenceMax(int64_t silence_max_us);

 private:
  void Beat();

  Executor* const executor_;
  ControlChannel* const channel_;
  const int64_t heartbeat_interval_us_;
  int64_t silence_max_us_;
  Silent silent_;
  int64_t silent_us_ = 0;
  int64_t last_beat_ns_;  // or when something came last, whichever is later
  std::unique_ptr<Timer> timer_;
};

}  // namespace faultline

#endif  // FAULTLINE_ENGINE_PEER_WATCH_H_
