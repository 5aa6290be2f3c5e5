#include "memory/hook_armer.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/check.h"
#include "memory/ram_file_users.h"

namespace faultline {

absl::StatusOr<int> HookArmer::Attach() {
  // A connection that is still held would make the hook turn the new one down.
  client_.reset();
  ASSIGN_OR_RETURN(client_, HookClient::Connect(path_, timeout_ms_));
  return client_->info().process_id;
}

// The VM's user is root, the one who runs this, the RAM file's owner, or whoever has that file
// mapped for writing: each of them has the VM's memory already.
absl::Status HookArmer::CheckPeer(std::span<const RamRegion> regions) const {
  const HookInfo& info = client_->info();
  if (info.user_id == 0 || info.user_id == geteuid()) return absl::OkStatus();
  for (const RamRegion& region : regions) {
    struct stat file;
    if (fstat(region.file, &file) < 0) return ErrnoStatus(errno, "stat a RAM file");
    if (file.st_uid == info.user_id ||
        MapsForWriting(info.process_id, {file.st_dev, file.st_ino})) {
      continue;
    }
    return absl::PermissionDeniedError(fmt::format(
        "hook '{}' is served by user {} (process {}), who has nothing to do with the VM: the RAM "
        "file of '{}' is user {}'s. Who answers there would get the VM's memory: give the hook's "
        "socket of the VM's own QEMU, in a folder where nobody else may write",
        path_, info.user_id, info.process_id, region.layout.name, file.st_uid));
  }
  return absl::OkStatus();
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
  RETURN_IF_ERROR(CheckPeer(regions));
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
  RETURN_IF_ERROR(CheckPeer(regions));
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
