// What the tests of the fault handler share.
#ifndef FAULTLINE_TESTS_ENGINE_FAULT_HANDLER_FIXTURE_H_
#define FAULTLINE_TESTS_ENGINE_FAULT_HANDLER_FIXTURE_H_

#include <map>
#include <vector>

#include "engine/fault_handler.h"
#include "engine/lane_fixture.h"

namespace faultline {

class FaultHandlerTest : public LaneTest {
 protected:
  explicit FaultHandlerTest(ReadAround around = ReadAround::Always(0))
      : handler_(&executor_, &memory_, &gate_, &counters_, &listener_, around) {}

  void Serve(bool integrity = false) {
    handler_.Start();
    handler_.Connect(&reader_, integrity);
  }
  // Touches a page and lets the handler hear of it.
  void Touch(uint64_t page) {
    memory_.Touch({0, page}, [this, page](const std::vector<std::byte>& bytes) {
      seen_[page] = static_cast<int>(bytes[0]);
    });
    clock_.RunUntilIdle();
  }
  // What the guest saw there; -1 while it waits.
  int Seen(uint64_t page) { return seen_.contains(page) ? seen_[page] : -1; }
  void Discard(PageRun run) {
    memory_.DiscardByGuest(run);
    clock_.RunUntilIdle();
  }

  ManualReader reader_;
  FaultHandler handler_;
  std::map<uint64_t, int> seen_;
};

}  // namespace faultline

#endif  // FAULTLINE_TESTS_ENGINE_FAULT_HANDLER_FIXTURE_H_
