#include "micro/report.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/distribution.h"

namespace faultline::bench::micro {

std::string DestinationReport(const Plan& plan, const DestinationFigures& figures,
                              const StampTable& stamps, double cpu_seconds, uint64_t wrong_pages) {
  nlohmann::ordered_json report = {{"transfer_seconds", figures.transfer_seconds},
                                   {"bytes", plan.pages * kPageBytes},
                                   {"bytes_wire", figures.bytes_wire},
                                   {"pages_demand", figures.pages_demand},
                                   {"pages_pushed", figures.pages_pushed},
                                   {"cpu_seconds", cpu_seconds - figures.toucher_cpu_seconds},
                                   {"wrong_pages", wrong_pages}};
  if (plan.measure != Measure::kBulk) {
    uint64_t arrived_meanwhile = 0;
    const Distribution touches = TouchTimes(stamps, &arrived_meanwhile);
    report["touch"] = InMicroseconds(touches);
    report["arrived_meanwhile"] = arrived_meanwhile;
    report["faults_per_second"] = static_cast<double>(touches.count) * 1e9 /
                                  static_cast<double>(std::max<int64_t>(TouchingNs(stamps), 1));
    for (const Stage& stage : figures.stages)
      report["stages"][stage.name] = InMicroseconds(stage.ns);
  }
  return report.dump();
}

std::string SourceReport(double cpu_seconds) {
  return nlohmann::ordered_json{{"cpu_seconds", cpu_seconds}}.dump();
}

}  // namespace faultline::bench::micro
