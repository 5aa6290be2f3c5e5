#include "hook/userfaultfd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hook/kernel_abi.h"
#include "hook/memory_map.h"

// A new userfaultfd, or -1 with errno. Faults that KVM takes in the kernel must be served too, so
// never UFFD_USER_MODE_ONLY.
static int OpenUserfaultfd(int device_fd) {
  int flags = O_CLOEXEC | O_NONBLOCK;
  int fd = (int)syscall(SYS_userfaultfd, flags);
  if (fd >= 0 || device_fd < 0) return fd;
  return ioctl(device_fd, KERNEL_USERFAULTFD_IOC_NEW, flags);
}

// Does the API handshake with `features`. Returns 0 or errno; `*features` becomes the offer.
static int Handshake(int uffd, uint64_t* features) {
  struct KernelUffdApi api = {.api = KERNEL_UFFD_API, .features = *features};
  if (ioctl(uffd, KERNEL_UFFDIO_API, &api) < 0) return errno;
  *features = api.features;
  return 0;
}

// The kernel's offer is read on a throwaway descriptor first,
// because a handshake happens once per descriptor and a refused one says nothing.
static enum HookStatus MakeUserfaultfd(int device_fd, uint64_t wanted, int* uffd, uint64_t* offered,
                                       struct HookRefusal* refusal) {
  int probe = OpenUserfaultfd(device_fd);
  if (probe < 0) {
    refusal->error_number = errno;
    return errno == EPERM || errno == EACCES || errno == ENOSYS ? kHookStatusNotPermitted
                                                                : kHookStatusSystem;
  }
  *offered = 0;
  refusal->error_number = Handshake(probe, offered);
  close(probe);
  if (refusal->error_number != 0) return kHookStatusSystem;
  if ((wanted & ~*offered) != 0) {
    refusal->detail = *offered;
    return kHookStatusFeatureMissing;
  }
  *uffd = OpenUserfaultfd(device_fd);
  if (*uffd < 0) {
    refusal->error_number = errno;
    return kHookStatusSystem;
  }
  uint64_t features = wanted;
  refusal->error_number = Handshake(*uffd, &features);
  if (refusal->error_number == 0) return kHookStatusOk;
  close(*uffd);
  *uffd = -1;
  return kHookStatusSystem;
}

enum HookStatus HookFindMemory(struct HookMemory* memory, const struct HookRequest* request,
                               int maps_fd, struct HookRefusal* refusal) {
  uint64_t addresses[HOOK_REGIONS_MAX];
  const uint32_t count = request->arm.region_count;
  memory->region_count = 0;
  enum HookStatus status = HookFindRegions(maps_fd, request->regions, count, addresses,
                                           &refusal->detail, &refusal->error_number);
  if (status != kHookStatusOk) return status;
  memory->region_count = count;
  for (uint32_t i = 0; i < count; ++i) {
    memory->regions[i] =
        (struct HookArmedRegion){.region = request->regions[i], .host_address = addresses[i]};
  }
  return kHookStatusOk;
}

enum HookStatus HookOpenMemory(struct HookMemory* memory, const struct HookRequest* request,
                               int maps_fd, int device_fd, int* uffd, struct HookRefusal* refusal) {
  enum HookStatus status = HookFindMemory(memory, request, maps_fd, refusal);
  if (status != kHookStatusOk) return status;
  status = MakeUserfaultfd(device_fd, request->arm.features, uffd, &memory->features, refusal);
  if (status != kHookStatusOk) memory->region_count = 0;
  return status;
}

enum HookStatus HookRegisterRegion(struct HookArmedRegion* region, int uffd, uint64_t mode,
                                   struct HookRefusal* refusal) {
  struct KernelUffdRegister request = {
      .range = {.start = region->host_address, .length = region->region.size}, .mode = mode};
  if (ioctl(uffd, KERNEL_UFFDIO_REGISTER, &request) < 0) {
    refusal->error_number = errno;
    return kHookStatusRegisterRefused;
  }
  region->ioctls = request.ioctls;
  return kHookStatusOk;
}

void HookUnregisterRegion(const struct HookArmedRegion* region, int uffd) {
  struct KernelUffdRange range = {.start = region->host_address, .length = region->region.size};
  (void)ioctl(uffd, KERNEL_UFFDIO_UNREGISTER, &range);
}
