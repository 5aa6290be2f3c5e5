#include "engine/peer_watch.h"

#include <utility>

namespace faultline {

PeerWatch::PeerWatch(Executor* executor, ControlChannel* channel, int64_t heartbeat_interval_us,
                     int64_t silence_max_us, Silent silent)
    : executor_(executor),
      channel_(channel),
      heartbeat_interval_us_(heartbeat_interval_us),
      silence_max_us_(silence_max_us),
      silent_(std::move(silent)),
      last_received_ns_(executor->NowNanos()) {
  timer_ = executor_->RunAfter(heartbeat_interval_us_, [this] { Beat(); });
}

void PeerWatch::NoteReceived() { last_received_ns_ = executor_->NowNanos(); }

void PeerWatch::SetSilenceMax(int64_t silence_max_us) {
  silence_max_us_ = silence_max_us;
  NoteReceived();
}

void PeerWatch::Beat() {
  int64_t silent_us = (executor_->NowNanos() - last_received_ns_) / 1000;
  if (silent_us > silence_max_us_) {
    Silent silent = std::move(silent_);  // it may destroy this watch
    silent(silent_us);
    return;
  }
  channel_->Send(Heartbeat{});
  timer_ = executor_->RunAfter(heartbeat_interval_us_, [this] { Beat(); });
}

}  // namespace faultline
