// How long each side waits for the other, and how often it gives a sign of life.
#ifndef FAULTLINE_ENGINE_SESSION_LIMITS_H_
#define FAULTLINE_ENGINE_SESSION_LIMITS_H_

#include <cstdint>

namespace faultline {

struct SessionLimits {
  int64_t connect_timeout_us = 10'000'000;
  int64_t heartbeat_interval_us = 200'000;
  // A peer that was silent for this long is dead. While the VM stands still it must be found out
  // soon, so that the VM can go on where it was.
  int64_t silence_preparing_us = 10'000'000;
  int64_t silence_frozen_us = 1'500'000;
  // After the handover it only means that a new connection is made.
  int64_t silence_post_copy_us = 5'000'000;
  // From the VMM's word that the VM is frozen to the handover; beyond it the migration is given up.
  int64_t handover_timeout_us = 10'000'000;
  // Once every page of a guest that may discard is there: how long events are read before the
  // memory is disarmed, so that a discard that began before the last page landed is still heard of.
  int64_t discard_settle_us = 20'000;
  // A peer that gives up closes its lanes too, and they may end before its reason has come.
  int64_t lane_failure_grace_us = 100'000;
  int64_t goodbye_timeout_us = 10'000'000;
  // How long a destination that has everything waits for a source whose connection was lost.
  int64_t parting_timeout_us = 30'000'000;
  // Reconnecting after the handover: the pause before a try doubles from the first to the longest,
  // and begins anew once pages have come.
  int64_t reconnect_pause_first_us = 100'000;
  int64_t reconnect_pause_max_us = 5'000'000;
  int64_t reconnect_try_us = 3'000'000;
  // For how long both sides try before the migration has failed; 0: for ever.
  int64_t recovery_timeout_us = 0;
  int64_t progress_interval_us = 200'000;
  // Telling a destination whose connection was lost that the VM stays with the source.
  int64_t outcome_retry_us = 500'000;
  int outcome_tries_max = 20;
  // Offered device state beyond this is refused.
  uint64_t device_state_bytes_max = uint64_t{1} << 30;
};

}  // namespace faultline

#endif  // FAULTLINE_ENGINE_SESSION_LIMITS_H_
