#include "cli/vm_examination.h"

#include <fmt/format.h>

#include "base/text.h"
#include "vmm/qemu/qmp_client.h"
#include "vmm/qemu/ram_discovery.h"

namespace faultline {
namespace {

// Of a VM that could leave: what hybrid migrations and pre-copy would find.
DoctorLine JudgeTracking(const VmDescription& vm) {
  DoctorLine line{"dirty tracking of this VM", DoctorLevel::kOk, "possible while it runs", ""};
  if (!vm.untrackable.empty()) {
    line.level = DoctorLevel::kWarn;
    line.finding = "not possible: post-copy only";
    line.mend = vm.untrackable;
  } else if (vm.direct_io) {
    line.finding =
        "possible; its disks bypass the page cache (cache.direct), so it is stopped for a moment "
        "at "
        "every look at its memory";
  }
  return line;
}

}  // namespace

absl::StatusOr<std::vector<DoctorLine>> ExamineVm(const std::string& qmp_path) {
  ASSIGN_OR_RETURN(std::unique_ptr<QmpClient> qmp, QmpClient::Connect(qmp_path, nullptr));
  ASSIGN_OR_RETURN(nlohmann::json status, qmp->Execute("query-status"));
  bool waits = status.value("status", "") == "inmigrate";
  absl::StatusOr<DiscoveredVm> vm =
      DiscoverVm(qmp.get(), waits ? DiscoverAs::kDestination : DiscoverAs::kSource);
  std::string subject = waits ? "VM as a destination" : "VM as a source";
  if (!vm.ok()) {
    return std::vector<DoctorLine>{
        {subject, DoctorLevel::kFail, "cannot migrate with Faultline", MessageOf(vm.status())}};
  }
  std::vector<DoctorLine> lines;
  lines.push_back({subject, DoctorLevel::kOk,
                   fmt::format("{}, {}", vm->description.vmm_version, vm->facts.status), ""});
  for (const RamRegion& region : vm->description.regions) {
    lines.push_back({fmt::format("RAM block '{}'", region.layout.name), DoctorLevel::kOk,
                     fmt::format("{} in pages of {}", FormatBytes(region.layout.size_bytes),
                                 FormatBytes(region.layout.page_size_bytes)),
                     ""});
  }
  if (!waits) lines.push_back(JudgeTracking(vm->description));
  return lines;
}

}  // namespace faultline
