#include "memory/dirty_tracker_factories.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <span>
#include <utility>
#include <vector>

#include "base/soft_dirty.h"
#include "memory/hook_client.h"
#include "memory/hook_regions.h"
#include "memory/soft_dirty_tracker.h"
#include "memory/uffd_setup.h"
#include "memory/wp_tracker.h"

namespace faultline {
namespace {

constexpr const char* kPostCopyWorks = "; --mode postcopy moves this VM without it";
constexpr uint64_t kLiftBytesMax = uint64_t{1} << 26;

absl::Status CheckTrackable(const VmDescription& vm) {
  if (vm.untrackable.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(vm.untrackable);
}

// With the way out, which is the same whatever is missing.
absl::Status OfferPostCopy(const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(),
                      fmt::format("dirty tracking, which this mode needs, cannot be had: {}{}",
                                  MessageOf(status), kPostCopyWorks));
}

using TrackerOr = absl::StatusOr<std::unique_ptr<DirtyTracker>>;

TrackerOr TrackByProtection(std::shared_ptr<HookClient> client,
                            std::span<const HookRegionRequest> requests, const VmDescription& vm) {
  ASSIGN_OR_RETURN(TrackedRegions tracked, client->Track(requests, DirtyTrackingUffdFeatures()));
  WpMemory memory;
  memory.uffd = std::move(tracked.uffd);
  memory.pagemap = std::move(tracked.pagemap);
  for (const ArmedRegion& region : tracked.regions) {
    memory.host_addresses.push_back(region.host_address);
  }
  memory.end = [client]() mutable {
    absl::Status ended = client->Untrack();
    // One that does not answer does it when the connection ends.
    client.reset();
    return absl::IsUnavailable(ended) ? absl::OkStatus() : ended;
  };
  return WpTracker::Make(vm.regions, std::move(memory), vm.direct_io);
}

TrackerOr TrackBySoftDirty(HookClient* client, std::span<const HookRegionRequest> requests,
                           const VmDescription& vm) {
  ASSIGN_OR_RETURN(InspectedRegions inspected, client->Inspect(requests));
  SoftDirtyMemory memory;
  memory.pagemap = std::move(inspected.pagemap);
  memory.clear_refs = std::move(inspected.clear_refs);
  for (const ArmedRegion& region : inspected.regions) {
    memory.host_addresses.push_back(region.host_address);
  }
  return SoftDirtyTracker::Make(vm.regions, std::move(memory));
}

TrackerOr TrackByHook(const std::string& path, int timeout_ms, const VmDescription& vm) {
  ASSIGN_OR_RETURN(std::vector<HookRegionRequest> requests, HookRequestsOf(vm.regions));
  ASSIGN_OR_RETURN(HookClient connected, HookClient::Connect(path, timeout_ms));
  auto client = std::make_shared<HookClient>(std::move(connected));
  RETURN_IF_ERROR(CheckHookPeer(path, client->info(), vm.regions));
  TrackerOr tracker = TrackByProtection(client, requests, vm);
  // What the kernel lacks, and what is wrong with a region, which the other way would find again.
  if (absl::IsFailedPrecondition(tracker.status()) && KernelHasSoftDirty()) {
    tracker = TrackBySoftDirty(client.get(), requests, vm);
  }
  if (absl::IsUnimplemented(tracker.status())) {
    return absl::UnimplementedError(
        fmt::format("the hook in this VM is too old (release {}): restart the VM's hypervisor with "
                    "a newer faultline-qemu.so",
                    client->info().release));
  }
  return tracker;
}

// Unregistering lifts all protection that is left in one go, and this process' page faults wait for
// that (30 ms for each GiB): so in pieces before it. What fails here is left to it.
void LiftProtection(int uffd, const RamRegion& region) {
  const uint64_t piece = std::max(kLiftBytesMax, region.layout.page_size_bytes);
  for (uint64_t done = 0; done < region.layout.size_bytes; done += piece) {
    uffdio_writeprotect request{.range = {.start = region.host_address + done,
                                          .len = std::min(piece, region.layout.size_bytes - done)},
                                .mode = 0};
    (void)ioctl(uffd, UFFDIO_WRITEPROTECT, &request);
  }
}

absl::StatusOr<WpMemory> TrackHere(const VmDescription& vm) {
  WpMemory memory;
  ASSIGN_OR_RETURN(memory.uffd, MakeUffd());
  RETURN_IF_ERROR(SetUpUffd(memory.uffd.get(), DirtyTrackingUffdFeatures()));
  memory.pagemap = FileDescriptor(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  if (!memory.pagemap.valid()) return ErrnoStatus(errno, "open /proc/self/pagemap");
  for (const RamRegion& region : vm.regions) {
    uffdio_register request{
        .range = {.start = region.host_address, .len = region.layout.size_bytes},
        .mode = UFFDIO_REGISTER_MODE_WP,
        .ioctls = 0};
    if (ioctl(memory.uffd.get(), UFFDIO_REGISTER, &request) < 0) {
      return ErrnoStatus(errno,
                         fmt::format("register region '{}' with userfaultfd", region.layout.name));
    }
    memory.host_addresses.push_back(region.host_address);
  }
  memory.end = [uffd = memory.uffd.get(), regions = vm.regions] {
    for (const RamRegion& region : regions) {
      LiftProtection(uffd, region);
      uffdio_range range{.start = region.host_address, .len = region.layout.size_bytes};
      if (ioctl(uffd, UFFDIO_UNREGISTER, &range) < 0) {
        return ErrnoStatus(errno, "unregister memory from userfaultfd");
      }
    }
    return absl::OkStatus();
  };
  return memory;
}

}  // namespace

absl::StatusOr<std::unique_ptr<DirtyTracker>> HookDirtyTrackerFactory::Open(
    const VmDescription& vm) {
  RETURN_IF_ERROR(CheckTrackable(vm));
  TrackerOr tracker = TrackByHook(path_, timeout_ms_, vm);
  RETURN_IF_ERROR(OfferPostCopy(tracker.status()));
  return tracker;
}

absl::StatusOr<std::unique_ptr<DirtyTracker>> LocalDirtyTrackerFactory::Open(
    const VmDescription& vm) {
  RETURN_IF_ERROR(CheckTrackable(vm));
  absl::StatusOr<WpMemory> memory = TrackHere(vm);
  RETURN_IF_ERROR(OfferPostCopy(memory.status()));
  TrackerOr tracker = WpTracker::Make(vm.regions, std::move(*memory), vm.direct_io);
  RETURN_IF_ERROR(OfferPostCopy(tracker.status()));
  return tracker;
}

}  // namespace faultline
