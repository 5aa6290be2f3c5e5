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

// Write protection whose faults the kernel answers by itself, since Linux 6.7
// (Documentation/admin-guide/mm/userfaultfd.rst): the page table remembers who was written.
inline constexpr uint64_t kUffdFeatureWpUnpopulated = uint64_t{1} << 13;
inline constexpr uint64_t kUffdFeatureWpAsync = uint64_t{1} << 15;
static_assert(sizeof(uffdio_writeprotect) == 24);

// PAGEMAP_SCAN on /proc/PID/pagemap, since Linux 6.7 (Documentation/admin-guide/mm/pagemap.rst).
struct PagemapScan {
  uint64_t size;
  uint64_t flags;  // kPagemapScan*
  uint64_t start;
  uint64_t end;
  uint64_t walk_end;  // out: where the walk stopped
  uint64_t vec;       // of PagemapRegion
  uint64_t vec_len;
  uint64_t max_pages;  // 0: no limit
  uint64_t category_inverted;
  uint64_t category_mask;  // kPageIs*
  uint64_t category_anyof_mask;
  uint64_t return_mask;
};
static_assert(sizeof(PagemapScan) == 96);
struct PagemapRegion {
  uint64_t start;
  uint64_t end;
  uint64_t categories;
};
static_assert(sizeof(PagemapRegion) == 24);
inline constexpr uint64_t kPagemapScanWpMatching = uint64_t{1} << 0;    // protects what it returns
inline constexpr uint64_t kPagemapScanCheckWpAsync = uint64_t{1} << 1;  // EPERM if not registered
inline constexpr uint64_t kPageIsWritten = uint64_t{1} << 1;
inline constexpr unsigned long kPagemapScan = _IOWR('f', 16, PagemapScan);

// The file's bits of f_type (statfs) that matter here.
inline constexpr uint64_t kTmpfsMagic = 0x01021994;
inline constexpr uint64_t kHugetlbfsMagic = 0x958458f6;
inline constexpr uint64_t kProcMagic = 0x9fa0;

}  // namespace faultline

#endif  // FAULTLINE_MEMORY_KERNEL_ABI_H_
