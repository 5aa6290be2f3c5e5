// faultline-bench: the engine under a synthetic guest, on two hosts. docs/experiments.md tells how.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <map>
#include <optional>
#include <string>

#include "assembly/rdma_examination.h"
#include "base/text.h"
#include "experiments/sides.h"

namespace faultline::bench::experiments {
namespace {

constexpr int kFailed = 1;
constexpr int kBadUsage = 2;

struct Options {
  std::map<std::string, std::string> words;  // by parameter
  std::string sweep_path;
  uint64_t repeats = 1;
  Side side;
};

void AddPlan(CLI::App* side, const std::vector<Parameter>& parameters, Options* options) {
  for (const Parameter& parameter : parameters) {
    std::string name = parameter.name;
    std::replace(name.begin(), name.end(), '_', '-');
    side->add_option("--" + name, options->words[parameter.name], parameter.help)
        ->type_name(parameter.values)
        ->group("Parameters, the same on both sides");
  }
  side->add_option("--sweep", options->sweep_path,
                   "a JSON object of parameters, each with a value or a list of them: every "
                   "combination is run; \"repeats\": N as well")
      ->type_name("FILE");
  side->add_option("--repeats", options->repeats, "how often every point is run")
      ->check(CLI::Range(uint64_t{1}, uint64_t{kStepsMax}))
      ->type_name("N");
}

void AddSecurity(CLI::App* side, Side* options) {
  side->add_flag("--insecure", options->insecure, "plain connections beyond loopback");
  side->add_option("--tls-dir", options->tls.directory, "certificates, named as QEMU names them")
      ->type_name("DIR");
  side->add_option("--tls-psk", options->tls.psk_path, "a file of pre-shared keys")
      ->type_name("FILE");
}

absl::StatusOr<Plan> ReadPlan(const std::vector<Parameter>& parameters, const Options& options) {
  Point base;
  for (const auto& [name, word] : options.words) {
    if (!word.empty()) RETURN_IF_ERROR(SetParameter(parameters, name, ValueOf(word), &base));
  }
  std::optional<std::string> sweep;
  if (!options.sweep_path.empty()) {
    ASSIGN_OR_RETURN(sweep, ReadTextFile(options.sweep_path));
  }
  absl::StatusOr<Plan> plan = MakePlan(parameters, base, options.repeats, sweep);
  if (!plan.ok() && sweep.has_value()) return Annotate(plan.status(), options.sweep_path);
  return plan;
}

// Said before anything begins, not at the step that needs it.
absl::Status CheckHost(const Plan& plan) {
  for (const Point& point : OneOfEachTransport(plan)) {
    if (point.transport == "rdma" && !ExamineRdma().any_active) {
      return absl::FailedPreconditionError(
          "transport rdma: this host has no RDMA port that is active; `faultline doctor` says what "
          "there is");
    }
  }
  return absl::OkStatus();
}

int Complain(const absl::Status& status, int exit_status) {
  fprintf(stderr, "faultline-bench: %s\n", MessageOf(status).c_str());
  return exit_status;
}

int Main(int argc, char** argv) {
  CLI::App app(
      "The engine under a synthetic guest. Start a destination on one host and a source with the "
      "same parameters on another; each prints one JSON object a line for every point.");
  const std::vector<Parameter> parameters = MakeParameters();
  Options options;
  CLI::App* destination = app.add_subcommand("destination", "the guest arrives and is measured");
  CLI::App* source = app.add_subcommand("source", "the guest leaves from here");
  for (CLI::App* side : {destination, source}) {
    AddPlan(side, parameters, &options);
    AddSecurity(side, &options.side);
  }
  destination->add_option("--listen", options.side.address, "where to wait; port 0 for any")
      ->type_name("HOST:PORT")
      ->required();
  source->add_option("--to", options.side.address, "where the destination listens")
      ->type_name("HOST:PORT")
      ->required();
  source
      ->add_option("--tls-hostname", options.side.tls.hostname,
                   "whom the destination's certificate names, if not the host of --to")
      ->type_name("NAME");
  double wait_s = static_cast<double>(options.side.wait_ms) / 1000;
  source->add_option("--wait-s", wait_s, "for how long each point tries to reach the destination")
      ->check(CLI::Range(0.0, 86400.0))
      ->type_name("SECONDS");
  app.require_subcommand(1);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kBadUsage;
  }
  options.side.wait_ms = static_cast<int64_t>(wait_s * 1000);
  const absl::StatusOr<Plan> plan = ReadPlan(parameters, options);
  if (!plan.ok()) return Complain(plan.status(), kBadUsage);
  if (absl::Status fit = CheckHost(*plan); !fit.ok()) return Complain(fit, kFailed);
  auto* run = *destination ? RunDestination : RunSource;
  const absl::Status status = run(options.side, parameters, *plan);
  return status.ok() ? 0 : Complain(status, absl::IsInvalidArgument(status) ? kBadUsage : kFailed);
}

}  // namespace
}  // namespace faultline::bench::experiments

int main(int argc, char** argv) { return faultline::bench::experiments::Main(argc, argv); }
