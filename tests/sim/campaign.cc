#include "sim/campaign.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>

namespace faultline::sim {
namespace {

// A signal handler has nothing else to look at.
std::atomic<uint64_t> seed_that_runs{0};

void NameSeed(int) {
  std::array<char, 80> text{};
  const auto end = fmt::format_to_n(text.data(), text.size(),
                                    "aborted while seed {} ran; again: ./dev sim --first {} "
                                    "--seeds 1\n",
                                    seed_that_runs.load(), seed_that_runs.load());
  [[maybe_unused]] ssize_t written = write(STDERR_FILENO, text.data(), end.size);
  std::signal(SIGABRT, SIG_DFL);
}

void Count(const Outcome& outcome, CampaignResult* result) {
  ++result->seeds_run;
  result->reads_checked += outcome.reads_checked;
  result->digest = result->digest * 31 + outcome.digest;
  if (outcome.completed) {
    ++result->completed;
    if (outcome.restarted) ++result->taken_up;
  } else if (outcome.handed_over) {
    ++result->interrupted;
  } else {
    ++result->rolled_back;
  }
}

}  // namespace

AbortNamesSeed::AbortNamesSeed() { std::signal(SIGABRT, NameSeed); }
AbortNamesSeed::~AbortNamesSeed() { std::signal(SIGABRT, SIG_DFL); }

Outcome RunSeed(uint64_t seed, Canary canary) {
  seed_that_runs = seed;
  return World(DrawPlan(seed), canary).Run();
}

std::string DescribeFailure(uint64_t seed, const Outcome& outcome) {
  return fmt::format(
      "seed {} breaks a rule: {}\n{}the last of {} events:\n{}trace digest {:016x}; "
      "again: ./dev sim --first {} --seeds 1\n",
      seed, outcome.breach, DescribePlan(DrawPlan(seed)), outcome.events, outcome.last_events,
      outcome.digest, seed);
}

CampaignResult RunCampaign(const CampaignOptions& options) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point started = Clock::now();
  CampaignResult result;
  for (uint64_t i = 0; i < options.seeds; ++i) {
    if (options.seconds_max != 0 &&
        Clock::now() - started >= std::chrono::seconds(options.seconds_max)) {
      break;
    }
    const uint64_t seed = options.first + i;
    Outcome outcome = RunSeed(seed, options.canary);
    Count(outcome, &result);
    if (outcome.breach.empty()) continue;
    result.failed_seed = seed;
    result.failure = std::move(outcome);
    break;
  }
  return result;
}

}  // namespace faultline::sim
