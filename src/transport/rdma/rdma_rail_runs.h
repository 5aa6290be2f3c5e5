// Runs of the push that have landed in slots, on whichever rail, and wait to be taken.
#ifndef FAULTLINE_TRANSPORT_RDMA_RDMA_RAIL_RUNS_H_
#define FAULTLINE_TRANSPORT_RDMA_RDMA_RAIL_RUNS_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "pages/page_types.h"
#include "transport/rdma/rail_places.h"

namespace faultline {

// What was pushed on each rail. Any thread.
struct RailBytes {
  std::array<std::atomic<uint64_t>, kRdmaRailsMax> read{};
  std::array<std::atomic<uint64_t>, kRdmaRailsMax> written{};
};

// The bulk thread.
class RdmaRailRuns {
 public:
  class Listener {
   public:
    virtual ~Listener() = default;
    // One more run waits to be taken. May call everything here.
    virtual void OnRunWhole() = 0;
    // Nothing comes any more on some rail.
    virtual void OnRunsFailed(absl::Status status) = 0;
  };
  struct Run {
    PageRun run;
    std::span<const std::byte> bytes;
  };

  virtual ~RdmaRailRuns() = default;
  // What is whole and not taken yet.
  virtual bool has_whole() const = 0;
  virtual Run first_whole() const = 0;
  // It was taken: its slot is used again. Appends what the source is to be told of it.
  virtual absl::Status TakeFirst(std::vector<std::byte>* answer) = 0;
  // Nothing is named that has not been taken.
  virtual bool idle() const = 0;
  // The listener hears of what completes, but not before this returns.
  virtual void AwaitSoon() = 0;
  // Nothing calls the listener after this returns.
  virtual void Stop() = 0;
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_RDMA_RAIL_RUNS_H_
