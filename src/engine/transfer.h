// What the destination's lanes share: counters, and how they report to the session.
#ifndef FAULTLINE_ENGINE_TRANSFER_H_
#define FAULTLINE_ENGINE_TRANSFER_H_

#include <atomic>
#include <cstdint>

#include "base/histogram.h"
#include "base/status.h"
#include "engine/push_front.h"
#include "pages/page_types.h"

namespace faultline {

// Where a fault's time goes, for faults that were answered over the demand lane.
struct FaultStages {
  Histogram read_to_sent_ns;           // the event was read -> the request is with the lane
  Histogram sent_to_answered_ns;       // -> the page has come
  Histogram answered_to_installed_ns;  // -> it is in the guest's memory
};

// Each is written by one thread (named) and read by any.
struct TransferCounters {
  std::atomic<uint64_t> faults{0};           // demand
  std::atomic<uint64_t> pages_demand{0};     // demand
  std::atomic<uint64_t> pages_discarded{0};  // demand
  std::atomic<uint64_t> pages_pushed{0};     // bulk
  std::atomic<uint64_t> pages_precopied{0};  // bulk
  Histogram fault_latency_us;                // demand
  FaultStages fault_stages;                  // demand
  PushFront push_front;                      // bulk
};

// Called on the lanes' threads.
class TransferListener {
 public:
  virtual ~TransferListener() = default;
  // No page is missing any more. May come more than once.
  virtual void OnAllPresent() = 0;
  // The source has pushed everything that it meant to push.
  virtual void OnPushFinished() = 0;
  // All of a pre-copy round is in force.
  virtual void OnRoundReceived(uint32_t round) = 0;
  // This host has no memory for the next page (true), or has again (false). Installing goes on by
  // itself.
  virtual void OnOutOfMemory(bool out) = 0;
  // What came for these pages is not what the source read; nothing of it was put in, and the lane
  // brings nothing more.
  virtual void OnMismatch(PageRun run) = 0;
  // A lane broke; no more pages will come over it.
  virtual void OnLaneFailed(absl::Status status) = 0;
  // The guest's memory broke; no more pages can be put in.
  virtual void OnTransferFailed(absl::Status status) = 0;
};

}  // namespace faultline

#endif  // FAULTLINE_ENGINE_TRANSFER_H_
