// faultline-micro: one side of one run. bench/micro/run.py starts both, many times, and compares.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>
#include <string>

#include "common/cpu_time.h"
#include "micro/report.h"
#include "micro/sides.h"

namespace faultline::bench::micro {
namespace {

void AddPlan(CLI::App* side, Plan* plan) {
  const std::map<std::string, Mover> movers{{"floor", Mover::kFloor}, {"engine", Mover::kEngine}};
  const std::map<std::string, Measure> measures{
      {"faults", Measure::kFaults}, {"bulk", Measure::kBulk}, {"push", Measure::kPush}};
  const std::map<std::string, SendsFrom> origins{
      {"mapping", SendsFrom::kMapping}, {"file", SendsFrom::kFile}, {"copy", SendsFrom::kCopy}};
  side->add_option("--mover", plan->mover, "hand-written floor, or the engine's sessions")
      ->transform(CLI::CheckedTransformer(movers))
      ->option_text("floor|engine")
      ->required();
  side->add_option("--measure", plan->measure,
                   "faults: every page is touched, nothing is pushed; bulk: all is pushed, nothing "
                   "touched; push: touched while all is pushed")
      ->transform(CLI::CheckedTransformer(measures))
      ->option_text("faults|bulk|push")
      ->required();
  side->add_option("--pages", plan->pages, "region's size in pages of 4 KiB")
      ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 28));
  side->add_option("--touchers", plan->touchers, "threads that touch")->check(CLI::Range(1, 64));
  side->add_option("--think-us", plan->think_us, "what a toucher computes between two touches");
  side->add_flag("--sequential", plan->sequential, "touch in order, not at random");
  side->add_option("--chunk-kib", plan->chunk_kib, "floors, bulk: received and copied at once")
      ->check(CLI::Range(4, 1 << 20));
  side->add_option("--lanes", plan->lanes,
                   "floors: parts of the region, each with threads, connections and a userfaultfd "
                   "of its own")
      ->check(CLI::Range(1, 64));
  side->add_option("--sends-from", plan->sends_from,
                   "floors, bulk: the source's own mapping, the file (sendfile), or what it has "
                   "read from the file")
      ->transform(CLI::CheckedTransformer(origins))
      ->option_text("mapping|file|copy");
  side->add_option("--poll-us", plan->poll_us,
                   "floors of faults: not 0 polls without end instead of blocking; engine: its "
                   "option of this name");
  side->add_flag("--page-alone", plan->page_alone, "engine: a fault brings no neighbors");
  side->add_flag("--integrity", plan->integrity, "engine: pages are checked end to end");
}

// Both sides know their peer's plan: what makes no sense is refused before anybody waits.
absl::Status Check(const Plan& plan) {
  if (plan.mover == Mover::kFloor && plan.measure == Measure::kPush && plan.poll_us != 0) {
    return absl::InvalidArgumentError("--poll-us: the floor that pushes does not poll");
  }
  if (plan.mover == Mover::kEngine && plan.lanes != 1) {
    return absl::InvalidArgumentError("--lanes: the engine has one of each kind");
  }
  if (plan.pages % static_cast<uint64_t>(plan.lanes) != 0) {
    return absl::InvalidArgumentError("--lanes: the pages cannot be shared out evenly");
  }
  return absl::OkStatus();
}

absl::Status RunDestination(const Plan& plan) {
  RETURN_IF_ERROR(Check(plan));
  ASSIGN_OR_RETURN(const std::unique_ptr<Region> region, Region::Make(plan.pages));
  RETURN_IF_ERROR(region->WarmUp(plan.pages));
  StampTable stamps(plan.pages);
  const double cpu_before = ProcessCpuSeconds();
  auto* run = plan.mover == Mover::kEngine ? RunEngineDestination : RunFloorDestination;
  ASSIGN_OR_RETURN(const DestinationFigures figures,
                   run(plan, *region, &stamps, [](const std::string& address) {
                     printf("listening %s\n", address.c_str());
                     fflush(stdout);
                   }));
  const double cpu_seconds = ProcessCpuSeconds() - cpu_before;
  const uint64_t wrong_pages = region->CountWrongPages();
  printf("%s\n", DestinationReport(plan, figures, stamps, cpu_seconds, wrong_pages).c_str());
  if (wrong_pages > 0) {
    return absl::DataLossError(std::to_string(wrong_pages) + " pages differ from the source's");
  }
  return absl::OkStatus();
}

absl::Status RunSource(const Plan& plan) {
  RETURN_IF_ERROR(Check(plan));
  ASSIGN_OR_RETURN(const std::unique_ptr<Region> region, Region::Make(plan.pages));
  RETURN_IF_ERROR(region->Fill(plan.pages));
  const double cpu_before = ProcessCpuSeconds();
  auto* run = plan.mover == Mover::kEngine ? RunEngineSource : RunFloorSource;
  RETURN_IF_ERROR(run(plan, *region));
  printf("%s\n", SourceReport(ProcessCpuSeconds() - cpu_before).c_str());
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  CLI::App app(
      "One side of a micro benchmark run. Start a destination, read the address from its line "
      "'listening ADDRESS', start a source with the same options and that address. Each prints one "
      "JSON object (times in us) and exits 0 if it succeeded and every page is right.");
  Plan plan;
  plan.address = "127.0.0.1:0";
  CLI::App* destination = app.add_subcommand("destination", "memory arrives and is touched here");
  AddPlan(destination, &plan);
  destination->add_option("--listen", plan.address, "IPv4 address and port, 0 for any");
  CLI::App* source = app.add_subcommand("source", "memory comes from here");
  AddPlan(source, &plan);
  source->add_option("--to", plan.address, "the destination's address")->required();
  app.require_subcommand(1);
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = *destination ? RunDestination(plan) : RunSource(plan);
  if (status.ok()) return 0;
  fprintf(stderr, "faultline-micro: %s\n", MessageOf(status).c_str());
  return 1;
}

}  // namespace
}  // namespace faultline::bench::micro

int main(int argc, char** argv) { return faultline::bench::micro::Main(argc, argv); }
