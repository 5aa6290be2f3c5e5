#include "memory/uffd_setup.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "memory/kernel_abi.h"

namespace faultline {
namespace {

constexpr char kDevicePath[] = "/dev/userfaultfd";

absl::StatusOr<FileDescriptor> MakeUffdByDevice() {
  FileDescriptor device(open(kDevicePath, O_RDWR | O_CLOEXEC));
  if (!device.valid()) return ErrnoStatus(errno, fmt::format("open {}", kDevicePath));
  FileDescriptor uffd(ioctl(device.get(), USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK));
  if (!uffd.valid()) return ErrnoStatus(errno, fmt::format("make one by {}", kDevicePath));
  return uffd;
}

}  // namespace

uint64_t PostCopyUffdFeatures() {
  return UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MISSING_HUGETLBFS |
         UFFD_FEATURE_THREAD_ID;
}

std::string UffdFeatureNames(uint64_t features) {
  static constexpr std::array kNames = {
      std::pair{uint64_t{UFFD_FEATURE_EVENT_REMOVE}, "EVENT_REMOVE"},
      std::pair{uint64_t{UFFD_FEATURE_MISSING_SHMEM}, "MISSING_SHMEM"},
      std::pair{uint64_t{UFFD_FEATURE_MISSING_HUGETLBFS}, "MISSING_HUGETLBFS"},
      std::pair{uint64_t{UFFD_FEATURE_THREAD_ID}, "THREAD_ID"},
      std::pair{uint64_t{UFFD_FEATURE_PAGEFAULT_FLAG_WP}, "PAGEFAULT_FLAG_WP"},
      std::pair{uint64_t{UFFD_FEATURE_WP_HUGETLBFS_SHMEM}, "WP_HUGETLBFS_SHMEM"},
      std::pair{kUffdFeatureWpUnpopulated, "WP_UNPOPULATED"},
      std::pair{kUffdFeatureWpAsync, "WP_ASYNC"},
  };
  std::string text;
  for (const auto& [bit, name] : kNames) {
    if ((features & bit) == 0) continue;
    text += fmt::format("{}{}", text.empty() ? "" : ", ", name);
    features &= ~bit;
  }
  if (features != 0) text += fmt::format("{}{:#x}", text.empty() ? "" : ", ", features);
  return text;
}

absl::StatusOr<FileDescriptor> MakeUffd() {
  FileDescriptor uffd(static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
  if (uffd.valid()) return uffd;
  int error_number = errno;
  if (error_number == ENOSYS) {
    return absl::UnimplementedError(
        "this kernel has no userfaultfd (CONFIG_USERFAULTFD is off); post-copy needs a kernel that "
        "has it");
  }
  if (error_number != EPERM) return ErrnoStatus(error_number, "make a userfaultfd");
  absl::StatusOr<FileDescriptor> by_device = MakeUffdByDevice();
  if (by_device.ok()) return by_device;
  return absl::PermissionDeniedError(fmt::format(
      "this process may not make a userfaultfd (EPERM; {}); run it as root, or give it read and "
      "write access to {}, or set vm.unprivileged_userfaultfd=1 (sysctl)",
      MessageOf(by_device.status()), kDevicePath));
}

absl::Status SetUpUffd(int uffd, uint64_t features) {
  uffdio_api api{.api = UFFD_API, .features = features, .ioctls = 0};
  if (ioctl(uffd, UFFDIO_API, &api) == 0) return absl::OkStatus();
  int error_number = errno;
  // Only a throwaway descriptor tells what there is: asking uses it up.
  absl::StatusOr<FileDescriptor> probe = MakeUffd();
  uffdio_api offer{.api = UFFD_API, .features = 0, .ioctls = 0};
  if (error_number == EINVAL && probe.ok() && ioctl(probe->get(), UFFDIO_API, &offer) == 0 &&
      (features & ~offer.features) != 0) {
    return absl::UnimplementedError(fmt::format(
        "this kernel's userfaultfd lacks {}: post-copy needs Linux 4.14 or later, dirty "
        "tracking 6.7 or later",
        UffdFeatureNames(features & ~offer.features)));
  }
  return ErrnoStatus(error_number, "set up a userfaultfd (UFFDIO_API)");
}

absl::StatusOr<uint64_t> RegisterMissing(int uffd, uint64_t address, uint64_t size_bytes,
                                         const std::string& name) {
  uffdio_register registration{.range = {.start = address, .len = size_bytes},
                               .mode = UFFDIO_REGISTER_MODE_MISSING,
                               .ioctls = 0};
  if (ioctl(uffd, UFFDIO_REGISTER, &registration) == 0) return registration.ioctls;
  int error_number = errno;
  const char* mend = "";
  if (error_number == EINVAL) {
    mend = "; the range must be mapped whole and be anonymous memory, tmpfs, memfd or hugetlbfs";
  } else if (error_number == EBUSY) {
    mend = "; another userfaultfd has this range already";
  } else if (error_number == EPERM) {
    mend = "; a shared mapping's file must be open for writing";
  }
  absl::Status failed = ErrnoStatus(
      error_number, fmt::format("register region '{}' ({} bytes at {:#x}) with userfaultfd", name,
                                size_bytes, address));
  return absl::Status(failed.code(), MessageOf(failed) + mend);
}

}  // namespace faultline
