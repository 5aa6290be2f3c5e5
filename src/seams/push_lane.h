// The bulk lane: runs of pages pushed by the source while nobody asked for them.
#ifndef FAULTLINE_SEAMS_PUSH_LANE_H_
#define FAULTLINE_SEAMS_PUSH_LANE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/status.h"
#include "pages/page_types.h"
#include "protocol/messages.h"
#include "seams/source_memory.h"

namespace faultline {

// The source's end. All calls happen on the bulk executor's thread.
class PushLane {
 public:
  class Listener {
   public:
    virtual ~Listener() = default;
    // TryPush would accept a run.
    virtual void OnLaneWritable() = 0;
    virtual void OnLaneFailed(absl::Status status) = 0;
  };

  virtual ~PushLane() = default;
  virtual void Start(const SourceMemory* memory, Listener* listener) = 0;
  // Bytes that one run may have at most (at least one page of any size is always taken).
  virtual uint64_t run_bytes_max() const = 0;
  // Takes one run to send, reading it from the memory given to Start. False: the lane holds as much
  // as it may; OnLaneWritable follows.
  virtual bool TryPush(PageRun run) = 0;
  // The same of a mark (kRoundBegin or kRoundEnd): what is pushed between two of them is of
  // `round`.
  virtual bool TryMark(PageFrameKind mark, uint32_t round) = 0;
  // After the last run: the peer's OnPushFinished follows all runs.
  virtual void Finish() = 0;
  virtual uint64_t bytes_sent() const = 0;  // any thread
  virtual void Stop() = 0;
};

// The destination's end. All calls happen on the bulk executor's thread.
class PushReceiver {
 public:
  class Listener {
   public:
    virtual ~Listener() = default;
    // A run, or a stretch of one, has arrived whole (no bytes: its pages are zero), with the
    // source's check sum of it where the lane carries one. True: taken, the bytes belong to the
    // receiver again. False: not now; the receiver keeps the run, reads nothing more, and offers it
    // again after Resume. Stop may be called from within.
    virtual bool OnRun(PageRun run, std::span<const std::byte> bytes,
                       std::optional<uint64_t> digest) = 0;
    // All runs before the mark were taken. Stop may be called from within.
    virtual void OnRoundMark(PageFrameKind mark, uint32_t round) = 0;
    virtual void OnPushFinished() = 0;
    virtual void OnReceiverFailed(absl::Status status) = 0;
  };

  virtual ~PushReceiver() = default;
  virtual void Start(Listener* listener) = 0;
  virtual void Resume() = 0;
  virtual void Stop() = 0;
};

}  // namespace faultline

#endif  // FAULTLINE_SEAMS_PUSH_LANE_H_
