// The simulation as a program: `./dev sim` and the test of the same name.
#include <fmt/format.h>
#include <getopt.h>

#include <charconv>
#include <cstdio>
#include <limits>
#include <string_view>

#include "sim/campaign.h"

namespace faultline::sim {
namespace {

constexpr int kUsageError = 2;

void PrintUsage() {
  fmt::print(
      "Whole migrations of the real engine over a simulated clock, network, memory and VM, one for "
      "each seed. Stops at the first one that breaks a rule, and prints its plan and its last "
      "events.\n"
      "  --seeds N      how many (10000; with --seconds: without end)\n"
      "  --first SEED   the first one (1); with --seeds 1 its plan is printed\n"
      "  --seconds S    stop after that long\n"
      "  --canary NAME  break the engine on purpose:");
  for (Canary canary : AllCanaries()) fmt::print(" {}", CanaryName(canary));
  fmt::print("\n");
}

template <typename Number>
bool Parse(std::string_view text, Number* number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *number);
  return error == std::errc() && end == text.data() + text.size();
}

// The exit status if there is nothing to run.
std::optional<int> ParseOptions(int argc, char** argv, CampaignOptions* options) {
  static constexpr option kOptions[] = {
      {"seeds", required_argument, nullptr, 'n'},   {"first", required_argument, nullptr, 'f'},
      {"seconds", required_argument, nullptr, 's'}, {"canary", required_argument, nullptr, 'c'},
      {"help", no_argument, nullptr, 'h'},          {}};
  bool seeds_given = false;
  for (int letter; (letter = getopt_long(argc, argv, "h", kOptions, nullptr)) != -1;) {
    bool fits = letter != '?';
    if (letter == 'h') return PrintUsage(), 0;
    if (letter == 'n') fits = seeds_given = Parse(optarg, &options->seeds);
    if (letter == 'f') fits = Parse(optarg, &options->first);
    if (letter == 's') fits = Parse(optarg, &options->seconds_max);
    if (letter == 'c') {
      std::optional<Canary> canary = CanaryNamed(optarg);
      fits = canary.has_value();
      options->canary = canary.value_or(Canary::kNone);
    }
    if (!fits) return PrintUsage(), kUsageError;
  }
  if (optind != argc) return PrintUsage(), kUsageError;
  if (options->seconds_max != 0 && !seeds_given) {
    options->seeds = std::numeric_limits<uint64_t>::max();
  }
  return std::nullopt;
}

int Main(int argc, char** argv) {
  CampaignOptions options;
  if (std::optional<int> status = ParseOptions(argc, argv, &options)) return *status;
  AbortNamesSeed names_seed;
  CampaignResult result = RunCampaign(options);
  fmt::print(
      "{} seeds from {}: {} completed ({} of them taken up again), {} stayed on the source, {} "
      "interrupted after the handover; "
      "{} words read and checked; digest {:016x}\n",
      result.seeds_run, options.first, result.completed, result.taken_up, result.rolled_back,
      result.interrupted, result.reads_checked, result.digest);
  if (result.failed_seed.has_value()) {
    fmt::print("{}", DescribeFailure(*result.failed_seed, result.failure));
    return 1;
  }
  if (options.seeds == 1) fmt::print("{}", DescribePlan(DrawPlan(options.first)));
  return 0;
}

}  // namespace
}  // namespace faultline::sim

int main(int argc, char** argv) { return faultline::sim::Main(argc, argv); }
