#include "memory/page_state_memfd.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace faultline {
namespace {

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

}  // namespace

absl::StatusOr<PageStateMemfd> PageStateMemfd::Create(const MemoryLayout& layout) {
  size_t bytes = PageTable::BytesNeeded(layout);
  FileDescriptor memfd(memfd_create("faultline-page-state", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memfd.valid()) return ErrnoStatus(errno, "make the page-state memfd");
  if (ftruncate(memfd.get(), static_cast<off_t>(bytes)) < 0) {
    return ErrnoStatus(errno, fmt::format("size the page-state memfd to {} bytes", bytes));
  }
  if (fcntl(memfd.get(), F_ADD_SEALS, kSeals) < 0) {
    return ErrnoStatus(errno, "seal the page-state memfd's size");
  }
  ASSIGN_OR_RETURN(Mapping mapping, Mapping::MapFile(memfd.get(), 0, bytes, /*writable=*/true,
                                                     "the page-state memfd"));
  std::unique_ptr<PageTable> table = PageTable::Format(mapping.bytes(), layout);
  return PageStateMemfd(std::move(memfd), std::move(mapping), std::move(table));
}

absl::StatusOr<PageStateMemfd> PageStateMemfd::Adopt(FileDescriptor memfd,
                                                     const MemoryLayout& layout) {
  int seals = fcntl(memfd.get(), F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
    return absl::InvalidArgumentError(
        "page-state table: what was handed out is not a memfd that is sealed against shrinking");
  }
  struct stat info;
  if (fstat(memfd.get(), &info) < 0) return ErrnoStatus(errno, "stat the page-state memfd");
  ASSIGN_OR_RETURN(Mapping mapping,
                   Mapping::MapFile(memfd.get(), 0, static_cast<size_t>(info.st_size),
                                    /*writable=*/true, "the page-state memfd"));
  ASSIGN_OR_RETURN(std::unique_ptr<PageTable> table, PageTable::Open(mapping.bytes(), layout));
  return PageStateMemfd(std::move(memfd), std::move(mapping), std::move(table));
}

}  // namespace faultline
