// What the kernel's interfaces look like where Debian 12's headers are older than the kernel that
// runs us, written from the kernel's documentation (Documentation/admin-guide/mm/userfaultfd.rst
// and pagemap.rst, madvise(2)), and checks that the headers' structures have the size the kernel
// expects.
#ifndef FAULTLINE_MEMORY_KERNEL_ABI_H_
#define FAULTLINE_MEMORY_KERNEL_ABI_H_

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#include <cstdint>

namespace faultline {

static_assert(sizeof(uffd_msg) == 32);
static_assert(sizeof(uffdio_api) == 24);
static_assert(sizeof(uffdio_range) == 16);
static_assert(sizeof(uffdio_register) == 32);
static_assert(sizeof(uffdio_copy) == 40);
static_assert(sizeof(uffdio_zeropage) == 32);
static_assert(sizeof(uffdio_continue) == 32);

// One bit of the mask that UFFDIO_REGISTER returns.
constexpr uint64_t UffdIoctlBit(unsigned number) { return uint64_t{1} << number; }

// Makes small pages huge at once; Linux 6.1, in another process too (process_madvise).
inline constexpr int kMadvCollapse = 25;

// UFFDIO_POISON, since Linux 6.6 (ioctl_userfaultfd(2)): whoever touches the page gets a SIGBUS.
struct UffdioPoison {
  uffdio_range range;
  uint64_t mode;
  int64_t updated;  // bytes done, or a negative errno
};
static_assert(sizeof(UffdioPoison) == 32);
inline constexpr unsigned kUffdioPoisonNumber = 0x08;
inline constexpr unsigned long kUffdioPoison = _IOWR(UFFDIO, kUffdioPoisonNumber, UffdioPoison);

// The file's bits of f_type (statfs) that matter here.
inline constexpr uint64_t kTmpfsMagic = 0x01021994;
inline constexpr uint64_t kHugetlbfsMagic = 0x958458f6;

}  // namespace faultline

#endif  // FAULTLINE_MEMORY_KERNEL_ABI_H_
