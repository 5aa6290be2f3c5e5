#include "engine/peer_watch.h"

#include <algorithm>
#include <utility>

namespace faultline {

PeerWatch::PeerWatch(Executor* executor, ControlChannel* channel, int64_t heartbeat_interval_us,
                     int64_t silence_max_us, Silent silent)
    : executor_(executor),
      channel_(channel),
      heartbeat_interval_us_(heartbeat_interval_us),
      silence_max_us_(silence_max_us),
      silent_(std::move(silent)),
      last_beat_ns_(executor->NowNanos()) {
  timer_ = executor_->RunAfter(heartbeat_interval_us_, [this] { Beat(); });
}

void PeerWatch::NoteReceived() {
  silent_us_ = 0;
  last_beat_ns_ = executor_->NowNanos();
}

void PeerWatch::SetSilenceMax(int64_t silence_max_us) {
  silence_max_us_ = silence_max_us;
  NoteReceived();
}

void PeerWatch::Beat() {
  const int64_t now_ns = executor_->NowNanos();
  silent_us_ += std::min((now_ns - last_beat_ns_) / 1000, 2 * heartbeat_interval_us_);
  last_beat_ns_ = now_ns;
  if (silent_us_ > silence_max_us_) {
    Silent silent = std::move(silent_);  // it may destroy this watch
    silent(silent_us_);
    return;
  }
  channel_->Send(Heartbeat{});
  timer_ = executor_->RunAfter(heartbeat_interval_us_, [this] { Beat(); });
}

}  // namespace faultline
