#include "vmm/qemu/kept_ram.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <utility>

namespace faultline {
namespace {

absl::StatusOr<FileDescriptor> OpenKept(const KeptRegion& region, bool writable) {
  FileDescriptor fd(
      open(region.path.c_str(), (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid() && errno == ENOENT) {
    return absl::NotFoundError(
        fmt::format("the RAM file '{}' of '{}' is gone, and with it the VM's memory that it held",
                    region.path, region.layout.name));
  }
  struct stat info;
  if (!fd.valid() || fstat(fd.get(), &info) < 0) {
    return ErrnoStatus(errno,
                       fmt::format("open the RAM file '{}' of '{}' (run this command as the user "
                                   "who began the migration)",
                                   region.path, region.layout.name));
  }
  const uint64_t bytes_needed = region.file_offset_bytes + region.layout.size_bytes;
  if (info.st_dev != region.device || info.st_ino != region.inode ||
      static_cast<uint64_t>(info.st_size) < bytes_needed) {
    return absl::FailedPreconditionError(fmt::format(
        "the RAM file '{}' of '{}' is not the one that the migration began with: it was "
        "replaced or cut since, and the VM's memory in it is gone",
        region.path, region.layout.name));
  }
  return fd;
}

}  // namespace

absl::StatusOr<KeptRam> OpenKeptRam(std::span<const KeptRegion> regions, bool writable) {
  KeptRam ram;
  // Whether there is a balloon is not kept; where there is none it costs 20 ms at the end.
  ram.description.guest_may_discard = true;
  for (const KeptRegion& region : regions) {
    ASSIGN_OR_RETURN(FileDescriptor fd, OpenKept(region, writable));
    ram.description.regions.push_back(
        {.layout = region.layout, .file = fd.get(), .file_offset_bytes = region.file_offset_bytes});
    ram.files.push_back(std::move(fd));
  }
  return ram;
}

}  // namespace faultline
