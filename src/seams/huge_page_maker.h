// Making a VM's memory huge again once it is whole: pages land one by one, and a guest is faster on
// huge ones.
#ifndef FAULTLINE_SEAMS_HUGE_PAGE_MAKER_H_
#define FAULTLINE_SEAMS_HUGE_PAGE_MAKER_H_

#include <cstdint>
#include <string>
#include <vector>

namespace faultline {

// What one step did.
struct HugePageStep {
  uint64_t bytes_made = 0;           // of small pages that are a huge one now
  bool done = false;                 // there is nothing left to do
  std::vector<std::string> notices;  // for people: why less became huge, and what mends it
};

// Comfort for a VM that is whole and runs: nothing here fails the migration, whoever has enough of
// it stops asking for steps. It takes no memory that the VM does not have already.
class HugePageMaker {
 public:
  virtual ~HugePageMaker() = default;
  // Does a bounded piece of the work: a few milliseconds of one processor, in which the VM may wait
  // for the piece. Any thread, one at a time; not after a step that was done.
  virtual HugePageStep Step() = 0;
};

}  // namespace faultline

#endif  // FAULTLINE_SEAMS_HUGE_PAGE_MAKER_H_
