// Finding out all that matters about a VM, from its monitor and from /proc.
#ifndef FAULTLINE_VMM_QEMU_RAM_DISCOVERY_H_
#define FAULTLINE_VMM_QEMU_RAM_DISCOVERY_H_

#include <string>
#include <vector>

#include "base/file_descriptor.h"
#include "base/status.h"
#include "seams/vm_description.h"
#include "vmm/qemu/qmp_client.h"
#include "vmm/qemu/vm_facts.h"

namespace faultline {

enum class DiscoverAs : uint8_t { kSource = 1, kDestination = 2 };

struct DiscoveredVm {
  VmFacts facts;
  VmDescription description;
  std::vector<FileDescriptor> files;  // what description.regions[].file refers to, in its order
};

// Asks the monitor, opens the RAM files (for reading; on the destination for writing too), and
// refuses what CheckSource or CheckDestination, and CheckFiles, refuse. Changes nothing. About
// twenty round trips.
absl::StatusOr<DiscoveredVm> DiscoverVm(QmpClient* qmp, DiscoverAs role);

// The part of it that the monitor answers: nothing of the process, nothing of the files.
absl::StatusOr<VmFacts> ReadVmFacts(QmpClient* qmp);

// Whether the VM still has the RAM blocks, objects and devices that it had: four round trips.
absl::StatusOr<bool> HasSameParts(QmpClient* qmp, const VmFacts& before);

// The list of RAM blocks alone: one round trip.
absl::StatusOr<std::vector<RamBlock>> ReadRamBlocks(
    QmpClient* qmp, int64_t timeout_ms = QmpClient::kReplyTimeoutMs);

}  // namespace faultline

#endif  // FAULTLINE_VMM_QEMU_RAM_DISCOVERY_H_
