#include "memory/hook_armer.h"

#include <fmt/format.h>

#include "base/check.h"
#include "memory/hook_regions.h"
#include "memory/ram_file_users.h"

namespace faultline {

absl::StatusOr<int> HookArmer::Attach() {
  // A connection that is still held would make the hook turn the new one down.
  client_.reset();
  ASSIGN_OR_RETURN(client_, HookClient::Connect(path_, timeout_ms_));
  return client_->info().process_id;
}

absl::StatusOr<ArmedMemory> HookArmer::Arm(std::span<const RamRegion> regions,
                                           const FileDescriptor& page_state_memfd,
                                           uint64_t features) {
  FAULTLINE_CHECK(client_.has_value());
  ASSIGN_OR_RETURN(std::vector<HookRegionRequest> requests, HookRequestsOf(regions));
  RETURN_IF_ERROR(CheckHookPeer(path_, client_->info(), regions));
  ASSIGN_OR_RETURN(ArmedRegions armed, client_->Arm(requests, page_state_memfd, features));
  if (armed.regions.size() != regions.size()) {
    return absl::InternalError(
        fmt::format("the hook armed {} regions of {}", armed.regions.size(), regions.size()));
  }
  ArmedMemory memory{std::move(armed.uffd), {}};
  for (const ArmedRegion& region : armed.regions) {
    memory.regions.push_back({region.host_address, region.ioctls});
  }
  return memory;
}

absl::StatusOr<TakenMemory> HookArmer::Take(std::span<const RamRegion> regions) {
  FAULTLINE_CHECK(client_.has_value());
  RETURN_IF_ERROR(CheckHookPeer(path_, client_->info(), regions));
  ASSIGN_OR_RETURN(ArmedRegions taken, client_->Take());
  if (taken.regions.size() != regions.size()) {
    return absl::FailedPreconditionError(fmt::format(
        "hook '{}' serves {} regions of RAM, the migration has {}: give the hook of the "
        "VM that was being migrated",
        path_, taken.regions.size(), regions.size()));
  }
  TakenMemory memory;
  for (size_t i = 0; i < regions.size(); ++i) {
    ASSIGN_OR_RETURN(FileIdentity file, IdentityOf(regions[i].file));
    const HookRegionRequest& region = taken.regions[i].region;
    const RegionLayout& layout = regions[i].layout;
    if (region.device != file.device || region.inode != file.inode ||
        region.file_offset_bytes != regions[i].file_offset_bytes ||
        region.size_bytes != layout.size_bytes ||
        region.page_size_bytes != layout.page_size_bytes) {
      return absl::FailedPreconditionError(
          fmt::format("hook '{}' has armed another memory than RAM block '{}' of this migration: "
                      "give the hook of the VM that was being migrated",
                      path_, layout.name));
    }
    memory.armed.regions.push_back({taken.regions[i].host_address, taken.regions[i].ioctls});
  }
  memory.armed.uffd = std::move(taken.uffd);
  memory.page_state_memfd = std::move(taken.page_state);
  return memory;
}

absl::Status HookArmer::Release() {
  FAULTLINE_CHECK(client_.has_value());
  return client_->Release();
}

}  // namespace faultline
