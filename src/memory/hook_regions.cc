#include "memory/hook_regions.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "memory/ram_file_users.h"

namespace faultline {

absl::StatusOr<std::vector<HookRegionRequest>> HookRequestsOf(std::span<const RamRegion> regions) {
  std::vector<HookRegionRequest> requests;
  for (const RamRegion& region : regions) {
    if (region.file < 0) {
      return absl::FailedPreconditionError(
          fmt::format("RAM block '{}' has no file, so the hook cannot find it; give the "
                      "VM a memory-backend-file with share=on",
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
  return requests;
}

// The VM's user is root, the one who runs this, the RAM file's owner, or whoever has that file
// mapped for writing: each of them has the VM's memory already.
absl::Status CheckHookPeer(const std::string& path, const HookInfo& info,
                           std::span<const RamRegion> regions) {
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
        path, info.user_id, info.process_id, region.layout.name, file.st_uid));
  }
  return absl::OkStatus();
}

}  // namespace faultline
