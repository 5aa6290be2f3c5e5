// Many seeds, one after the other.
#ifndef FAULTLINE_TESTS_SIM_CAMPAIGN_H_
#define FAULTLINE_TESTS_SIM_CAMPAIGN_H_

#include <cstdint>
#include <optional>
#include <string>

#include "sim/canaries.h"
#include "sim/world.h"

namespace faultline::sim {

// Runs what `seed` draws.
Outcome RunSeed(uint64_t seed, Canary canary = Canary::kNone);

// What a person needs to look into a failure: the breach, the plan, the last events, and how to see
// it again.
std::string DescribeFailure(uint64_t seed, const Outcome& outcome);

struct CampaignOptions {
  uint64_t first = 1;
  uint64_t seeds = 10'000;
  int64_t seconds_max = 0;  // stops after the seed during which they pass; 0: no limit
  Canary canary = Canary::kNone;
};

struct CampaignResult {
  uint64_t seeds_run = 0;
  uint64_t completed = 0;    // on both sides
  uint64_t taken_up = 0;     // of these: a command had been started again
  uint64_t rolled_back = 0;  // the VM stayed on the source
  uint64_t interrupted = 0;  // handed over, and not completed on both sides
  uint64_t reads_checked = 0;
  uint64_t digest = 0;  // of all runs' digests
  std::optional<uint64_t> failed_seed;
  Outcome failure;
};

// Stops at the first seed that breaks a rule.
CampaignResult RunCampaign(const CampaignOptions& options);

// While it lives, an abort (a broken invariant of the code under test) names the seed that was
// running. At most one at a time.
class AbortNamesSeed {
 public:
  AbortNamesSeed();
  ~AbortNamesSeed();
  AbortNamesSeed(const AbortNamesSeed&) = delete;
  AbortNamesSeed& operator=(const AbortNamesSeed&) = delete;
};

}  // namespace faultline::sim

#endif  // FAULTLINE_TESTS_SIM_CAMPAIGN_H_
