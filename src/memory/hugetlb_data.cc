#include "memory/hugetlb_data.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "base/file_descriptor.h"
#include "memory/kernel_abi.h"
#include "memory/mapping.h"

namespace faultline {
namespace {

constexpr size_t kReadBytes = 256 * 1024;

// A userfaultfd for this process's own mapping. No fault is ever handled with it, so the kind that
// needs no privilege is enough.
absl::StatusOr<FileDescriptor> MakeMinorUffd() {
  FileDescriptor uffd(
      static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY)));
  if (!uffd.valid()) return ErrnoStatus(errno, "make a userfaultfd");
  uffdio_api api{.api = UFFD_API, .features = UFFD_FEATURE_MINOR_HUGETLBFS, .ioctls = 0};
  if (ioctl(uffd.get(), UFFDIO_API, &api) < 0) {
    return ErrnoStatus(errno, "set up a userfaultfd for minor faults on hugetlbfs");
  }
  return uffd;
}

absl::StatusOr<bool> IsZero(const RamRegion& region, uint64_t first, std::vector<char>* buffer) {
  uint64_t page_bytes = region.layout.page_size_bytes;
  for (uint64_t done = 0; done < page_bytes;) {
    uint64_t offset = region.file_offset_bytes + first * page_bytes + done;
    ssize_t got = pread(region.file, buffer->data(), std::min(buffer->size(), page_bytes - done),
                        static_cast<off_t>(offset));
    if (got < 0) {
      return ErrnoStatus(errno, fmt::format("read the RAM file of '{}'", region.layout.name));
    }
    if (got == 0) return true;
    if (!std::all_of(buffer->begin(), buffer->begin() + got, [](char c) { return c == 0; })) {
      return false;
    }
    done += static_cast<uint64_t>(got);
  }
  return true;
}

}  // namespace

absl::StatusOr<PageRangeSet> FindHugetlbPagesByContinue(const RamRegion& region) {
  std::string path = fmt::format("/proc/self/fd/{}", region.file);
  // The kernel registers shared mappings only for who may write the file.
  FileDescriptor writable(open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!writable.valid()) {
    return ErrnoStatus(errno,
                       fmt::format("open the RAM file of '{}' for writing", region.layout.name));
  }
  ASSIGN_OR_RETURN(Mapping mapping,
                   Mapping::MapFile(writable.get(), region.file_offset_bytes,
                                    region.layout.size_bytes, /*writable=*/false, "a RAM file"));
  ASSIGN_OR_RETURN(FileDescriptor uffd, MakeMinorUffd());
  uffdio_register registration{
      .range = {.start = mapping.address(), .len = region.layout.size_bytes},
      .mode = UFFDIO_REGISTER_MODE_MINOR,
      .ioctls = 0};
  if (ioctl(uffd.get(), UFFDIO_REGISTER, &registration) < 0) {
    return ErrnoStatus(errno, "register a RAM file's mapping for minor faults");
  }
  PageRangeSet pages;
  for (uint64_t page = 0; page < region.layout.page_count(); ++page) {
    uint64_t size = region.layout.page_size_bytes;
    uffdio_continue probe{.range = {.start = mapping.address() + page * size, .len = size},
                          .mode = UFFDIO_CONTINUE_MODE_DONTWAKE,
                          .mapped = 0};
    if (ioctl(uffd.get(), UFFDIO_CONTINUE, &probe) == 0 || errno == EEXIST) {
      pages.Add(page, page + 1);
    } else if (errno != EFAULT) {  // EFAULT: a hole
      return ErrnoStatus(
          errno, fmt::format("ask whether page {} of '{}' exists", page, region.layout.name));
    }
  }
  return pages;
}

absl::StatusOr<PageRangeSet> FindHugetlbPagesByReading(const RamRegion& region) {
  std::vector<char> buffer(kReadBytes);
  PageRangeSet pages;
  for (uint64_t page = 0; page < region.layout.page_count(); ++page) {
    ASSIGN_OR_RETURN(bool zero, IsZero(region, page, &buffer));
    if (!zero) pages.Add(page, page + 1);
  }
  return pages;
}

}  // namespace faultline
