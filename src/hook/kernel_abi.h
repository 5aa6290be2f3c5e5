// The few kernel structures the hook needs, written from the kernel's documentation
// (Documentation/admin-guide/mm/userfaultfd.rst, ioctl_userfaultfd(2)), because the headers of the
// machine that builds the hook may be older than the kernel that runs it.
#ifndef FAULTLINE_HOOK_KERNEL_ABI_H_
#define FAULTLINE_HOOK_KERNEL_ABI_H_

#include <stdint.h>
#include <sys/ioctl.h>

#define KERNEL_UFFD_API 0xaaull
#define KERNEL_UFFD_REGISTER_MISSING 1ull
#define KERNEL_UFFD_REGISTER_WP 2ull

struct KernelUffdApi {
  uint64_t api;
  uint64_t features;
  uint64_t ioctls;
};

struct KernelUffdRange {
  uint64_t start;
  uint64_t length;
};

struct KernelUffdRegister {
  struct KernelUffdRange range;
  uint64_t mode;
  uint64_t ioctls;
};

struct KernelUffdWriteProtect {
  struct KernelUffdRange range;
  uint64_t mode;  // 0: lifts the protection
};

#define KERNEL_UFFDIO_API _IOWR(0xaa, 0x3f, struct KernelUffdApi)
#define KERNEL_UFFDIO_REGISTER _IOWR(0xaa, 0x00, struct KernelUffdRegister)
#define KERNEL_UFFDIO_UNREGISTER _IOR(0xaa, 0x01, struct KernelUffdRange)
#define KERNEL_UFFDIO_WRITEPROTECT _IOWR(0xaa, 0x06, struct KernelUffdWriteProtect)
// On /dev/userfaultfd; the argument is the new descriptor's flags.
#define KERNEL_USERFAULTFD_IOC_NEW _IO(0xaa, 0x00)

#endif  // FAULTLINE_HOOK_KERNEL_ABI_H_
