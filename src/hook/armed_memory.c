#include "hook/armed_memory.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hook/kernel_abi.h"

void HookCloseSlot(_Atomic int* fd) {
  int old = atomic_exchange(fd, -1);
  if (old >= 0) close(old);
}

void HookArmedMemoryInit(struct HookArmedMemory* memory) {
  atomic_store(&memory->uffd, -1);
  atomic_store(&memory->page_state, -1);
}

bool HookIsArmed(const struct HookArmedMemory* memory) { return atomic_load(&memory->uffd) >= 0; }

void HookArmedMemoryForget(struct HookArmedMemory* memory) {
  HookCloseSlot(&memory->uffd);
  HookCloseSlot(&memory->page_state);
}

// While pages are missing, a huge page would let KVM map 2 MiB of which most has not arrived.
// hugetlb knows no such advice. EINVAL: a kernel without transparent huge pages.
static int AdviseHugePages(const struct HookArmedRegion* armed, bool allow) {
  if (armed->region.page_size != (uint64_t)sysconf(_SC_PAGESIZE)) return 0;
  void* address = (void*)(uintptr_t)armed->host_address;
  if (madvise(address, armed->region.size, allow ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) == 0) return 0;
  return errno == EINVAL ? 0 : errno;
}

// Registers all that was found. On failure the caller closes the descriptor, which undoes it.
static enum HookStatus RegisterRegions(struct HookArmedMemory* memory, int uffd,
                                       struct HookRefusal* refusal) {
  for (uint32_t i = 0; i < memory->found.region_count; ++i) {
    struct HookArmedRegion* armed = &memory->found.regions[i];
    refusal->detail = i;
    refusal->error_number = AdviseHugePages(armed, false);
    if (refusal->error_number != 0) return kHookStatusSystem;
    enum HookStatus status = HookRegisterRegion(armed, uffd, KERNEL_UFFD_REGISTER_MISSING, refusal);
    if (status != kHookStatusOk) return status;
  }
  refusal->detail = 0;
  return kHookStatusOk;
}

// QEMU asks for huge pages on all guest RAM, so that is what it gets back.
static void RestoreHugePages(const struct HookArmedMemory* memory) {
  for (uint32_t i = 0; i < memory->found.region_count; ++i) {
    (void)AdviseHugePages(&memory->found.regions[i], true);
  }
}

enum HookStatus HookArmMemory(struct HookArmedMemory* memory, const struct HookRequest* request,
                              int maps_fd, int page_state_fd, int device_fd,
                              struct HookRefusal* refusal) {
  int uffd = -1;
  enum HookStatus status =
      HookOpenMemory(&memory->found, request, maps_fd, device_fd, &uffd, refusal);
  if (status != kHookStatusOk) return status;
  status = RegisterRegions(memory, uffd, refusal);
  if (status != kHookStatusOk) {
    close(uffd);
    RestoreHugePages(memory);
    memory->found.region_count = 0;
    return status;
  }
  atomic_store(&memory->page_state, page_state_fd);
  atomic_store(&memory->uffd, uffd);
  return kHookStatusOk;
}

void HookReleaseMemory(struct HookArmedMemory* memory) {
  int uffd = atomic_load(&memory->uffd);
  for (uint32_t i = 0; i < memory->found.region_count; ++i) {
    HookUnregisterRegion(&memory->found.regions[i], uffd);
  }
  RestoreHugePages(memory);
  HookCloseSlot(&memory->uffd);
  HookCloseSlot(&memory->page_state);
  memory->found.region_count = 0;
}
