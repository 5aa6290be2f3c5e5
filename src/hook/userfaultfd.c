#include "hook/userfaultfd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hook/kernel_abi.h"

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
enum HookStatus HookMakeUserfaultfd(int device_fd, uint64_t wanted, int* uffd, uint64_t* offered,
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
