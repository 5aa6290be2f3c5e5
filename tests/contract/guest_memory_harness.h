// What the GuestMemory contract needs of each implementation.
#ifndef FAULTLINE_TESTS_CONTRACT_GUEST_MEMORY_HARNESS_H_
#define FAULTLINE_TESTS_CONTRACT_GUEST_MEMORY_HARNESS_H_

#include <cstddef>
#include <future>
#include <vector>

#include "fakes/poll_loop.h"
#include "seams/guest_memory.h"

namespace faultline {

// A guest with two regions, of at least 8 pages each, whose memory is under test.
class GuestMemoryHarness {
 public:
  virtual ~GuestMemoryHarness() = default;
  virtual GuestMemory& memory() = 0;
  virtual PollLoop& loop() = 0;
  // The guest reads a page: the future gets its bytes once it may.
  virtual std::future<std::vector<std::byte>> Touch(PageId page) = 0;
  // The guest gives pages up, as its hypervisor does it; the future is set when it may go on.
  virtual std::future<void> Discard(PageRun run) = 0;
  // Whether the kernel tells of discards in this kind of memory.
  virtual bool tells_discards() const = 0;
  // Whether Punch can reach this kind of memory.
  virtual bool punches() const = 0;
};

}  // namespace faultline

#endif  // FAULTLINE_TESTS_CONTRACT_GUEST_MEMORY_HARNESS_H_
