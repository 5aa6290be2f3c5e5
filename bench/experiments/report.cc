#include "experiments/report.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <cstdio>
#include <utility>

#include "base/text.h"
#include "common/distribution.h"

namespace faultline::bench::experiments {
namespace {

Json OrNull(const std::optional<double>& value) {
  return value.has_value() ? Json(*value) : Json();
}

Json ToJson(const HistogramSummary& latency) {
  return {{"count", latency.count}, {"p50_us", latency.p50},   {"p90_us", latency.p90},
          {"p99_us", latency.p99},  {"p999_us", latency.p999}, {"max_us", latency.max}};
}

void AddSource(const StepFigures& figures, Json* line) {
  const ProgressSnapshot& last = figures.result.last;
  Json& l = *line;
  l["bytes_wire"] = last.bytes_wire;
  l["bytes_packed_in"] = last.bytes_packed_in;
  l["bytes_packed_out"] = last.bytes_packed_out;
  l["guest_operations_per_100_ms_before"] = OrNull(figures.before_operations_per_100_ms);
}

void AddDestination(const StepFigures& figures, Json* line) {
  const SessionResult& result = figures.result;
  const ProgressSnapshot& last = result.last;
  Json& l = *line;
  l["downtime_us"] = result.downtime_us;
  l["total_us"] = result.total_us;
  l["pages_total"] = last.pages_total;
  l["pages_absent"] = last.pages_absent;
  l["pages_demand"] = last.pages_demand;
  l["pages_pushed"] = last.pages_pushed;
  l["faults"] = last.faults;
  l["reconnects"] = last.reconnects;
  l["bytes_total"] = last.bytes_total;
  l["bytes_wire"] = last.bytes_wire;
  l["fault_latency"] = ToJson(result.fault_latency_us);
  l["touch_waited"] = InMicroseconds(Summarize(figures.guest.waited_ns));
  l["touches_arrived_meanwhile"] = figures.guest.arrived_meanwhile;
  l["guest_operations"] = figures.guest.speed.total();
  l["guest_operations_per_100_ms_before"] = OrNull(figures.before_operations_per_100_ms);
  l["guest_operations_per_100_ms_missing"] = OrNull(figures.missing_operations_per_100_ms);
  l["guest_operations_per_100_ms_after"] = OrNull(figures.after_operations_per_100_ms);
  l["guest_operations_per_10_ms"] = figures.guest.speed.bins();
}

std::string CpuModel() {
  const absl::StatusOr<std::string> text = ReadTextFile("/proc/cpuinfo");
  const std::string key = "model name";
  const size_t begin = text.ok() ? text->find(key) : std::string::npos;
  if (begin == std::string::npos) return "unknown";
  const size_t colon = text->find(':', begin);
  const size_t end = text->find('\n', begin);
  if (colon == std::string::npos || end == std::string::npos || colon + 2 >= end) return "unknown";
  return text->substr(colon + 2, end - colon - 2);
}

}  // namespace

Json DescribeMachine() {
  utsname name{};
  uname(&name);
  const auto page_kib = static_cast<uint64_t>(sysconf(_SC_PAGESIZE)) / 1024;
  return {{"host", name.nodename},
          {"cpu", CpuModel()},
          {"cpus", sysconf(_SC_NPROCESSORS_ONLN)},
          {"memory_mib", static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * page_kib / 1024},
          {"kernel", name.release}};
}

void Print(const Json& line) {
  printf("%s\n", line.dump(-1, ' ', false, Json::error_handler_t::replace).c_str());
  fflush(stdout);
}

Json ResultLine(Role role, const std::vector<Parameter>& parameters, const Plan& plan, size_t step,
                const StepFigures& figures) {
  const bool destination = role == Role::kDestination;
  Json line = {{"event", "result"},
               {"side", destination ? "destination" : "source"},
               {"step", step + 1},
               {"steps", plan.steps()},
               {"repeat", plan.RepeatOf(step) + 1},
               {"parameters", experiments::ToJson(parameters, plan.PointOf(step))},
               {"machine", DescribeMachine()},
               {"transport", figures.result.transport},
               {"integrity", figures.result.integrity}};
  if (destination) {
    AddDestination(figures, &line);
  } else {
    AddSource(figures, &line);
  }
  line["engine_cpu_seconds"] = figures.engine_cpu_seconds;
  line["guest_cpu_seconds"] = figures.guest.cpu_seconds;
  line["wrong_reads"] = figures.guest.wrong_reads;
  if (destination) line["wrong_pages"] = figures.wrong_pages;
  return line;
}

}  // namespace faultline::bench::experiments
