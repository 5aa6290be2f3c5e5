#include "memory/hook_armer.h"

#include <fmt/format.h>

#include "base/check.h"
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
  std::vector<HookRegionRequest> requests;
  for (const RamRegion& region : regions) {
    if (region.file < 0) {
      return absl::FailedPreconditionError(
          fmt::format("RAM block '{}' has no file, so the hook cannot find it; give the "
                      "destination a memory-backend-file with share=on",
                      region.layout.name));
    }
    ASSIGN_OR_RETURN(FileIdentity file, IdentityOf(region.file));
    requests.push_back({.name = region.layout.name,
                        .device = file.device,
                        .inode = file.inode,
                        .file_offset_bytes = region.file_offset_bytes,
                        .size_bytes = region.layout.size_bytes,
                        .page_size_bytes = region.layout.page_size_bytes});
  }
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

absl::Status HookArmer::Release() {
  FAULTLINE_CHECK(client_.has_value());
  return client_->Release();
}

}  // namespace faultline
