#include "memory/mapping.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cerrno>

namespace faultline {

absl::StatusOr<Mapping> Mapping::MapFile(int file, uint64_t offset_bytes, size_t size_bytes,
                                         bool writable, const char* what) {
  // Without MAP_NORESERVE a read-only look at a hugetlb file would reserve huge pages for its
  // holes.
  void* address = mmap(nullptr, size_bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ,
                       MAP_SHARED | MAP_NORESERVE, file, static_cast<off_t>(offset_bytes));
  if (address == MAP_FAILED) {
    return ErrnoStatus(errno, fmt::format("map {} bytes of {}", size_bytes, what));
  }
  return Mapping({static_cast<std::byte*>(address), size_bytes});
}

absl::StatusOr<Mapping> Mapping::MapZeros(size_t size_bytes) {
  void* address =
      mmap(nullptr, size_bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) {
    return ErrnoStatus(errno, fmt::format("map {} bytes of zeros", size_bytes));
  }
  return Mapping({static_cast<std::byte*>(address), size_bytes});
}

void Mapping::Reset() {
  if (!bytes_.empty()) munmap(bytes_.data(), bytes_.size());
  bytes_ = {};
}

}  // namespace faultline
