// What the engine asks of a hook and of who serves it, for arming and for tracking alike.
#ifndef FAULTLINE_MEMORY_HOOK_REGIONS_H_
#define FAULTLINE_MEMORY_HOOK_REGIONS_H_

#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "memory/hook_client.h"
#include "seams/vm_description.h"

namespace faultline {

// The regions as a hook finds them. FailedPrecondition for one that has no file.
absl::StatusOr<std::vector<HookRegionRequest>> HookRequestsOf(std::span<const RamRegion> regions);

// PermissionDenied if the hook at `path` is served by a user who has nothing to do with the VM:
// whoever serves it gets the VM's memory.
absl::Status CheckHookPeer(const std::string& path, const HookInfo& info,
                           std::span<const RamRegion> regions);

}  // namespace faultline

#endif  // FAULTLINE_MEMORY_HOOK_REGIONS_H_
