#include "hook/tracked_memory.h"

#include <errno.h>
#include <unistd.h>

#include "hook/armed_memory.h"
#include "hook/kernel_abi.h"
#include "hook/memory_map.h"

static const uint64_t kPieceBytes = UINT64_C(64) << 20;

void HookTrackedMemoryInit(struct HookTrackedMemory* memory) { atomic_store(&memory->uffd, -1); }

bool HookIsTracking(const struct HookTrackedMemory* memory) {
  return atomic_load(&memory->uffd) >= 0;
}

void HookTrackedMemoryForget(struct HookTrackedMemory* memory) { HookCloseSlot(&memory->uffd); }

// Registers `memory->regions`. On failure the caller closes the descriptor, which undoes it.
static enum HookStatus RegisterForWrites(struct HookTrackedMemory* memory, int uffd,
                                         struct HookRefusal* refusal) {
  for (uint32_t i = 0; i < memory->region_count; ++i) {
    struct HookArmedRegion* tracked = &memory->regions[i];
    struct KernelUffdRegister request = {
        .range = {.start = tracked->host_address, .length = tracked->region.size},
        .mode = KERNEL_UFFD_REGISTER_WP};
    if (ioctl(uffd, KERNEL_UFFDIO_REGISTER, &request) < 0) {
      refusal->detail = i;
      refusal->error_number = errno;
      return kHookStatusRegisterRefused;
    }
    tracked->ioctls = request.ioctls;
  }
  return kHookStatusOk;
}

enum HookStatus HookTrackMemory(struct HookTrackedMemory* memory, const struct HookRequest* request,
                                int maps_fd, int device_fd, struct HookRefusal* refusal) {
  uint64_t addresses[HOOK_REGIONS_MAX];
  uint32_t count = request->arm.region_count;
  enum HookStatus status = HookFindRegions(maps_fd, request->regions, count, addresses,
                                           &refusal->detail, &refusal->error_number);
  if (status != kHookStatusOk) return status;
  int uffd = -1;
  status = HookMakeUserfaultfd(device_fd, request->arm.features, &uffd, &memory->features, refusal);
  if (status != kHookStatusOk) return status;

  memory->region_count = count;
  for (uint32_t i = 0; i < count; ++i) {
    memory->regions[i] =
        (struct HookArmedRegion){.region = request->regions[i], .host_address = addresses[i]};
  }
  status = RegisterForWrites(memory, uffd, refusal);
  if (status != kHookStatusOk) {
    close(uffd);
    memory->region_count = 0;
    return status;
  }
  atomic_store(&memory->uffd, uffd);
  return kHookStatusOk;
}

// In pieces: unregistering lifts all protection that is left in one go, and the hypervisor's page
// faults wait for that (30 ms for each GiB). What fails here is left to it.
static void LiftProtection(int uffd, const struct HookArmedRegion* tracked) {
  const uint64_t size = tracked->region.size;
  uint64_t piece = kPieceBytes;
  if (piece < tracked->region.page_size) piece = tracked->region.page_size;
  for (uint64_t done = 0; done < size; done += piece) {
    struct KernelUffdWriteProtect request = {
        .range = {.start = tracked->host_address + done,
                  .length = size - done < piece ? size - done : piece},
        .mode = 0};
    (void)ioctl(uffd, KERNEL_UFFDIO_WRITEPROTECT, &request);
  }
}

void HookStopTracking(struct HookTrackedMemory* memory) {
  int uffd = atomic_load(&memory->uffd);
  if (uffd < 0) return;
  // Said for each region: the engine may hold the descriptor still, and only the last close would
  // do the same.
  for (uint32_t i = 0; i < memory->region_count; ++i) {
    const struct HookArmedRegion* tracked = &memory->regions[i];
    LiftProtection(uffd, tracked);
    struct KernelUffdRange range = {.start = tracked->host_address, .length = tracked->region.size};
    (void)ioctl(uffd, KERNEL_UFFDIO_UNREGISTER, &range);
  }
  HookCloseSlot(&memory->uffd);
  memory->region_count = 0;
}
