#include "hook/fault_server.h"

#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "base/check.h"

namespace faultline {

std::optional<uint64_t> NextFault(const FileDescriptor& uffd, int timeout_ms) {
  pollfd event{.fd = uffd.get(), .events = POLLIN, .revents = 0};
  if (poll(&event, 1, timeout_ms) != 1 || event.revents != POLLIN) return std::nullopt;
  uffd_msg message{};
  if (read(uffd.get(), &message, sizeof(message)) != sizeof(message)) return std::nullopt;
  if (message.event != UFFD_EVENT_PAGEFAULT) return std::nullopt;
  return uint64_t{message.arg.pagefault.address};
}

int InstallPage(const FileDescriptor& uffd, uint64_t address, uint64_t page_size_bytes,
                uint8_t value) {
  std::vector<uint8_t> page(page_size_bytes, value);
  uffdio_copy copy{};
  copy.dst = address & ~(page_size_bytes - 1);
  copy.src = reinterpret_cast<uint64_t>(page.data());
  copy.len = page_size_bytes;
  return ioctl(uffd.get(), UFFDIO_COPY, &copy) == 0 ? 0 : errno;
}

void WakeRegion(const FileDescriptor& uffd, const ArmedRegion& region) {
  uffdio_range range{.start = region.host_address, .len = region.region.size_bytes};
  FAULTLINE_CHECK(ioctl(uffd.get(), UFFDIO_WAKE, &range) == 0);
}

HookRegionRequest RegionOf(const std::string& path) {
  struct stat file {};
  FAULTLINE_CHECK(stat(path.c_str(), &file) == 0);
  struct statfs system {};
  FAULTLINE_CHECK(statfs(path.c_str(), &system) == 0);
  constexpr long kHugetlbfsMagic = 0x958458f6;
  HookRegionRequest region;
  region.name = "ram";
  region.device = file.st_dev;
  region.inode = file.st_ino;
  region.size_bytes = static_cast<uint64_t>(file.st_size);
  if (system.f_type == kHugetlbfsMagic) {
    region.page_size_bytes = static_cast<uint64_t>(system.f_bsize);
  }
  return region;
}

FileDescriptor MakePageState(const std::string& text) {
  FileDescriptor memfd(memfd_create("page-state", MFD_CLOEXEC));
  FAULTLINE_CHECK(memfd.valid());
  FAULTLINE_CHECK(write(memfd.get(), text.data(), text.size()) ==
                  static_cast<ssize_t>(text.size()));
  return memfd;
}

}  // namespace faultline
