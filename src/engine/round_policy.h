// When pre-copy has done what it can, and the VM is to be moved. Pure.
#ifndef FAULTLINE_ENGINE_ROUND_POLICY_H_
#define FAULTLINE_ENGINE_ROUND_POLICY_H_

#include <cstdint>
#include <optional>

namespace faultline {

enum class MigrationMode : uint8_t {
  kPostCopy = 1,  // nothing is sent before the switch
  kHybrid = 2,    // rounds for as long as they pay; the rest by post-copy
  kPreCopy = 3,   // rounds until the rest is small, else by post-copy
};
const char* ModeName(MigrationMode mode);  // "postcopy", "hybrid", "precopy"

// What rounds may cost.
struct PreCopyBudgets {
  uint32_t rounds_max = 30;
  int64_t time_max_us = 600'000'000;
  // kPreCopy: what is left is small enough when it can be sent within this.
  int64_t downtime_max_us = 300'000;
  // kPreCopy: the VM may be slowed where what is left does not shrink.
  bool throttle = false;
};

enum class SwitchReason : uint8_t {
  kConverged = 1,      // what is left is small
  kNoGain = 2,         // kHybrid: another round would send mostly what is written again
  kNotConverging = 3,  // kPreCopy: what is left does not shrink any more
  kRounds = 4,         // the rounds are used up
  kTime = 5,           // the time is
  kAsked = 6,          // by a person
  kPeer = 7,           // the destination knows no rounds
};
const char* SwitchReasonName(SwitchReason reason);  // "converged", "no-gain", ...

// What is known after a scan for written pages, at the end of a round or in the middle of one.
// Bytes are of memory, not of what they were packed into.
struct RoundFacts {
  uint32_t round = 1;  // the one that has ended, or is under way
  bool ended = true;
  int64_t elapsed_us = 0;  // since the first round began
  // Of this round: what was sent, in what time, and how much of that has been written again.
  uint64_t sent_bytes = 0;
  int64_t sent_us = 0;
  uint64_t again_bytes = 0;
  // What another round would have to send: written, and not left for post-copy.
  uint64_t left_bytes = 0;
  // All that would follow by post-copy if the VM was moved now; `left_bytes` is a part of it.
  uint64_t missing_bytes = 0;
  bool can_slow = false;  // the VM can be slowed by a step more
};

// One migration's. Facts come in order.
class RoundPolicy {
 public:
  RoundPolicy(MigrationMode mode, const PreCopyBudgets& budgets) : mode_(mode), budgets_(budgets) {}

  // Why to switch now; nothing: go on.
  std::optional<SwitchReason> Decide(const RoundFacts& facts);
  // By the last decision to go on: the VM should be slowed by a step more.
  bool wants_slower() const { return wants_slower_; }

 private:
  std::optional<SwitchReason> DecideHybrid(const RoundFacts& facts);
  std::optional<SwitchReason> DecidePreCopy(const RoundFacts& facts);

  const MigrationMode mode_;
  const PreCopyBudgets budgets_;
  uint64_t first_round_bytes_ = 0;
  uint64_t later_rounds_bytes_ = 0;
  uint64_t least_left_bytes_ = UINT64_MAX;  // after any round
  int rounds_without_progress_ = 0;
  bool wants_slower_ = false;
};

}  // namespace faultline

#endif  // FAULTLINE_ENGINE_ROUND_POLICY_H_
