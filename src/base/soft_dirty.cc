#include "base/soft_dirty.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file_descriptor.h"

namespace faultline {

bool KernelHasSoftDirty() {
  const auto page_bytes = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  void* page =
      mmap(nullptr, page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return false;
  *static_cast<volatile char*>(page) = 1;
  const FileDescriptor pagemap(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  uint64_t entry = 0;
  const auto offset =
      static_cast<off_t>(reinterpret_cast<uint64_t>(page) / page_bytes * sizeof(entry));
  const bool read = pread(pagemap.get(), &entry, sizeof(entry), offset) == sizeof(entry);
  munmap(page, page_bytes);
  return read && (entry & kPagemapSoftDirty) != 0;
}

}  // namespace faultline
