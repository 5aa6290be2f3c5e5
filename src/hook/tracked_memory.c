#include "hook/tracked_memory.h"

#include <errno.h>
#include <unistd.h>

#include "hook/armed_memory.h"
#include "hook/kernel_abi.h"

static const uint64_t kPieceBytes = UINT64_C(64) << 20;

void HookTrackedMemoryInit(struct HookTrackedMemory* memory) { atomic_store(&memory->uffd, -1); }

bool HookIsTracking(const struct HookTrackedMemory* memory) {
  return atomic_load(&memory->uffd) >= 0;
}

void HookTrackedMemoryForget(struct HookTrackedMemory* memory) { HookCloseSlot(&memory->uffd); }

// Registers all that was found. On failure the caller closes the descriptor, which undoes it.
static enum HookStatus RegisterForWrites(struct HookTrackedMemory* memory, int uffd,
                                         struct HookRefusal* refusal) {
  for (uint32_t i = 0; i < memory->found.region_count; ++i) {
    enum HookStatus status =
        HookRegisterRegion(&memory->found.regions[i], uffd, KERNEL_UFFD_REGISTER_WP, refusal);
    if (status == kHookStatusOk) continue;
    refusal->detail = i;
    return status;
  }
  return kHookStatusOk;
}

enum HookStatus HookTrackMemory(struct HookTrackedMemory* memory, const struct HookRequest* request,
                                int maps_fd, int device_fd, struct HookRefusal* refusal) {
  int uffd = -1;
  enum HookStatus status =
      HookOpenMemory(&memory->found, request, maps_fd, device_fd, &uffd, refusal);
  if (status != kHookStatusOk) return status;
  status = RegisterForWrites(memory, uffd, refusal);
  if (status != kHookStatusOk) {
    close(uffd);
    memory->found.region_count = 0;
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
  for (uint32_t i = 0; i < memory->found.region_count; ++i) {
    const struct HookArmedRegion* tracked = &memory->found.regions[i];
    LiftProtection(uffd, tracked);
    HookUnregisterRegion(tracked, uffd);
  }
  HookCloseSlot(&memory->uffd);
  memory->found.region_count = 0;
}
