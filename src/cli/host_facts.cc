#include "cli/host_facts.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/capability.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <sstream>

#include "base/file_descriptor.h"
#include "base/soft_dirty.h"
#include "base/text.h"
#include "cli/hook_library.h"
#include "cli/subprocess.h"
#include "runtime/confinement/syscall_filter.h"

namespace faultline {
namespace {

constexpr int kQemuTimeoutMs = 10'000;
constexpr const char* kShm = "/dev/shm";

// By a right that goes beyond RLIMIT_MEMLOCK, or one to raise it.
bool MayPinAnything() {
  constexpr uint32_t kRights = uint32_t{1} << CAP_IPC_LOCK | uint32_t{1} << CAP_SYS_RESOURCE;
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
  return syscall(SYS_capget, &header, data) == 0 && (data[0].permitted & kRights) != 0;
}

// All features of the kernel; the descriptor is of no other use afterwards.
uint64_t FeaturesOf(const FileDescriptor& userfaultfd) {
  uffdio_api api{};
  api.api = UFFD_API;
  if (ioctl(userfaultfd.get(), UFFDIO_API, &api) < 0) return 0;
  return api.features;
}

void LookAtUserfaultfd(HostFacts* facts) {
  // Not UFFD_USER_MODE_ONLY: KVM's faults come from the kernel.
  FileDescriptor by_call(static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
  if (by_call.valid()) {
    facts->userfaultfd_features = FeaturesOf(by_call);
  } else {
    facts->userfaultfd_call_errno = errno;
  }
  FileDescriptor device(open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
  if (!device.valid()) {
    facts->userfaultfd_device_errno = errno;
    return;
  }
  FileDescriptor by_device(ioctl(device.get(), USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK));
  if (!by_device.valid()) {
    facts->userfaultfd_device_errno = errno;
  } else if (!by_call.valid()) {
    facts->userfaultfd_features = FeaturesOf(by_device);
  }
}

// Fills in the last mount on /dev/shm: that is the one that is seen.
void LookAtMounts(HostFacts* facts) {
  absl::StatusOr<std::string> mounts = ReadTextFile("/proc/self/mounts");
  if (!mounts.ok()) return;
  std::istringstream lines(*mounts);
  std::string line;
  while (std::getline(lines, line)) {
    std::istringstream fields(line);
    std::string device, place, type, options;
    fields >> device >> place >> type >> options;
    if (place != kShm) continue;
    facts->shm_file_system = type;
    facts->shm_options = options;
  }
}

void LookAtShm(HostFacts* facts) {
  LookAtMounts(facts);
  struct statvfs room {};
  if (statvfs(kShm, &room) == 0) {
    facts->shm_size_bytes = room.f_blocks * room.f_frsize;
    facts->shm_free_bytes = room.f_bavail * room.f_frsize;
  }
  absl::StatusOr<std::string> words =
      ReadTextFile("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
  if (!words.ok()) return;
  size_t begin = words->find('[');
  size_t end = words->find(']');
  if (begin < end && end != std::string::npos) {
    facts->shmem_enabled = words->substr(begin + 1, end - begin - 1);
  }
}

uint64_t ReadNumber(const std::string& path) {
  absl::StatusOr<std::string> text = ReadTextFile(path);
  return text.ok() ? std::strtoull(text->c_str(), nullptr, 10) : 0;
}

void LookAtHugePages(HostFacts* facts) {
  static constexpr const char* kPools = "/sys/kernel/mm/hugepages";
  std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir(kPools), closedir);
  if (directory == nullptr) return;
  while (const dirent* entry = readdir(directory.get())) {
    unsigned long long size_kib = 0;
    if (sscanf(entry->d_name, "hugepages-%llukB", &size_kib) != 1) continue;
    std::string pool = fmt::format("{}/{}", kPools, entry->d_name);
    facts->huge_pages.push_back({size_kib * 1024, ReadNumber(pool + "/nr_hugepages"),
                                 ReadNumber(pool + "/free_hugepages")});
  }
  std::sort(facts->huge_pages.begin(), facts->huge_pages.end(),
            [](const HugePagePool& a, const HugePagePool& b) {
              return a.page_size_bytes < b.page_size_bytes;
            });
}

void LookAtQemu(HostFacts* facts) {
  absl::StatusOr<CapturedOutput> version =
      RunAndCapture({facts->qemu, "--version"}, kQemuTimeoutMs);
  if (!version.ok()) {
    facts->qemu_error = MessageOf(version.status());
    return;
  }
  std::string first_line = version->text.substr(0, version->text.find('\n'));
  if (version->exit_status != 0 || first_line.find("QEMU") == std::string::npos) {
    facts->qemu_error = fmt::format("'{} --version' says: {}", facts->qemu, first_line);
    return;
  }
  facts->qemu_version = first_line;
  absl::StatusOr<CapturedOutput> help = RunAndCapture({facts->qemu, "--help"}, kQemuTimeoutMs);
  facts->qemu_has_plugins = help.ok() && help->text.find("\n-plugin ") != std::string::npos;
}

}  // namespace

HostFacts GatherHostFacts(const std::string& qemu, const std::string& hook_library) {
  HostFacts facts;
  utsname kernel{};
  if (uname(&kernel) == 0) facts.kernel_release = kernel.release;
  facts.is_root = geteuid() == 0;
  LookAtUserfaultfd(&facts);
  facts.soft_dirty = KernelHasSoftDirty();
  LookAtShm(&facts);
  LookAtHugePages(&facts);
  FileDescriptor kvm(open("/dev/kvm", O_RDWR | O_CLOEXEC));
  if (!kvm.valid()) facts.kvm_errno = errno;
  absl::StatusOr<std::string> hook = FindHookLibrary(hook_library);
  if (hook.ok()) {
    facts.hook_library = *hook;
  } else {
    facts.hook_error = MessageOf(hook.status());
  }
  facts.qemu = qemu.empty() ? "qemu-system-x86_64" : qemu;
  LookAtQemu(&facts);
  facts.sandbox_error = MessageOf(CheckSyscallFilter());
  rlimit limit{};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0) {
    // The commands raise it as far as they may.
    const bool unlimited = limit.rlim_max == RLIM_INFINITY || MayPinAnything();
    facts.memlock_bytes = unlimited ? UINT64_MAX : limit.rlim_max;
  }
  return facts;
}

}  // namespace faultline
