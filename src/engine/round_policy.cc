#include "engine/round_policy.h"

namespace faultline {
namespace {

// What a link carries in this is not worth a round of its own: to scan, mark and acknowledge takes
// about as long.
constexpr int64_t kWorthARoundUs = 10'000;
// Before so much was sent, what is written again says little.
constexpr uint64_t kJudgedFromBytes = 16 << 20;
// Another round that could only bring so small a part of what is missing does not pay either.
constexpr uint64_t kWorthOfMissing = 4;
// Rounds that do not shrink by such a part each would go on for long, for little.
constexpr uint64_t kShrinksBy = 8;
constexpr int kRoundsWithoutProgressMax = 3;

// Bytes that go out in `time_us` at the rate of this round.
uint64_t BytesWithin(const RoundFacts& facts, int64_t time_us) {
  if (facts.sent_us <= 0) return 0;
  const double rate = static_cast<double>(facts.sent_bytes) / static_cast<double>(facts.sent_us);
  return static_cast<uint64_t>(rate * static_cast<double>(time_us));
}

}  // namespace

const char* ModeName(MigrationMode mode) {
  switch (mode) {
    case MigrationMode::kPostCopy:
      return "postcopy";
    case MigrationMode::kHybrid:
      return "hybrid";
    case MigrationMode::kPreCopy:
      return "precopy";
  }
  return "unknown";
}

const char* SwitchReasonName(SwitchReason reason) {
  switch (reason) {
    case SwitchReason::kConverged:
      return "converged";
    case SwitchReason::kNoGain:
      return "no-gain";
    case SwitchReason::kNotConverging:
      return "not-converging";
    case SwitchReason::kRounds:
      return "rounds";
    case SwitchReason::kTime:
      return "time";
    case SwitchReason::kAsked:
      return "asked";
    case SwitchReason::kPeer:
      return "peer";
  }
  return "unknown";
}

std::optional<SwitchReason> RoundPolicy::Decide(const RoundFacts& facts) {
  if (facts.ended && facts.left_bytes == 0) return SwitchReason::kConverged;
  std::optional<SwitchReason> reason =
      mode_ == MigrationMode::kPreCopy ? DecidePreCopy(facts) : DecideHybrid(facts);
  if (reason.has_value()) return reason;
  if (facts.elapsed_us >= budgets_.time_max_us) return SwitchReason::kTime;
  if (facts.ended && facts.round >= budgets_.rounds_max) return SwitchReason::kRounds;
  return std::nullopt;
}

// While a round is sent the VM is hardly slowed, and while memory follows it mostly waits: a round
// pays as long as less is left after it than it had to send. The next one is as much shorter, and
// as much less is written in it.
std::optional<SwitchReason> RoundPolicy::DecideHybrid(const RoundFacts& facts) {
  if (!facts.ended) {
    const bool wasted = facts.again_bytes > facts.sent_bytes / 2;
    if (facts.sent_bytes >= kJudgedFromBytes && wasted) return SwitchReason::kNoGain;
    return std::nullopt;
  }
  if (facts.left_bytes <= BytesWithin(facts, kWorthARoundUs)) return SwitchReason::kConverged;
  (facts.round == 1 ? first_round_bytes_ : later_rounds_bytes_) += facts.sent_bytes;
  if (facts.left_bytes > facts.sent_bytes - facts.sent_bytes / kShrinksBy) {
    return SwitchReason::kNoGain;
  }
  if (later_rounds_bytes_ + facts.left_bytes > first_round_bytes_) return SwitchReason::kNoGain;
  // What the VM writes all the time is not sent again, and is most of what is left.
  if (facts.left_bytes <= facts.missing_bytes / kWorthOfMissing) return SwitchReason::kNoGain;
  return std::nullopt;
}

std::optional<SwitchReason> RoundPolicy::DecidePreCopy(const RoundFacts& facts) {
  if (!facts.ended) return std::nullopt;
  if (facts.left_bytes <= BytesWithin(facts, budgets_.downtime_max_us)) {
    return SwitchReason::kConverged;
  }
  // A round that leaves nearly as much as the best one before has brought nothing.
  const bool progress = facts.left_bytes < least_left_bytes_ - least_left_bytes_ / 10;
  wants_slower_ = !progress && facts.can_slow;
  rounds_without_progress_ = progress || wants_slower_ ? 0 : rounds_without_progress_ + 1;
  if (progress) least_left_bytes_ = facts.left_bytes;
  if (rounds_without_progress_ >= kRoundsWithoutProgressMax) return SwitchReason::kNotConverging;
  return std::nullopt;
}

}  // namespace faultline
