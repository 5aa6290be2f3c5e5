#include "memory/local_armer.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "memory/kernel_abi.h"
#include "memory/uffd_setup.h"

namespace faultline {
namespace {

absl::StatusOr<std::vector<ArmedRange>> RegisterAll(int uffd, std::span<const RamRegion> regions) {
  std::vector<ArmedRange> armed;
  for (const RamRegion& region : regions) {
    const RegionLayout& layout = region.layout;
    void* address = reinterpret_cast<void*>(region.host_address);
    // EINVAL: a kernel without transparent huge pages, or hugetlb memory.
    if (madvise(address, layout.size_bytes, MADV_NOHUGEPAGE) < 0 && errno != EINVAL) {
      return ErrnoStatus(errno, fmt::format("turn huge pages off for region '{}' ({} bytes at {})",
                                            layout.name, layout.size_bytes, address));
    }
    ASSIGN_OR_RETURN(uint64_t ioctls,
                     RegisterMissing(uffd, region.host_address, layout.size_bytes, layout.name));
    armed.push_back({region.host_address, ioctls});
  }
  return armed;
}

// Closing a descriptor of ours would do, but a given one has other copies.
void UnregisterAll(int uffd, std::span<const RamRegion> regions) {
  for (const RamRegion& region : regions) {
    uffdio_range range{.start = region.host_address, .len = region.layout.size_bytes};
    ioctl(uffd, UFFDIO_UNREGISTER, &range);
  }
}

}  // namespace

absl::StatusOr<int> LocalArmer::Attach() { return getpid(); }

absl::StatusOr<ArmedMemory> LocalArmer::Arm(std::span<const RamRegion> regions,
                                            const FileDescriptor& /*page_state_memfd*/,
                                            uint64_t features) {
  for (const RamRegion& region : regions) {
    if (region.host_address == 0) {
      return absl::InvalidArgumentError(
          fmt::format("region '{}' has no address in this process", region.layout.name));
    }
  }
  FileDescriptor uffd;
  if (given_.valid()) {
    ASSIGN_OR_RETURN(uffd, given_.Duplicate());
    // A descriptor that is set up already refuses a second time; registering shows whether it was.
    uffdio_api api{.api = UFFD_API, .features = features, .ioctls = 0};
    ioctl(uffd.get(), UFFDIO_API, &api);
  } else {
    ASSIGN_OR_RETURN(uffd, MakeUffd());
    RETURN_IF_ERROR(SetUpUffd(uffd.get(), features));
  }
  absl::StatusOr<std::vector<ArmedRange>> armed = RegisterAll(uffd.get(), regions);
  if (!armed.ok()) {
    UnregisterAll(uffd.get(), regions);
    return armed.status();
  }
  return ArmedMemory{std::move(uffd), *std::move(armed)};
}

absl::StatusOr<TakenMemory> LocalArmer::Take(std::span<const RamRegion> /*regions*/) {
  return absl::UnimplementedError("memory of this very process cannot have been armed by another");
}

}  // namespace faultline
