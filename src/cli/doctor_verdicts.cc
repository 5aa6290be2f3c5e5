#include "cli/doctor_verdicts.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <linux/userfaultfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "base/text.h"

namespace faultline {
namespace {

// Not in the headers of kernels before 6.6 and 6.7; the numbers are the kernel's ABI.
constexpr uint64_t kFeaturePoison = 1 << 14;
constexpr uint64_t kFeatureWpAsync = 1 << 15;

struct FeatureName {
  uint64_t bit;
  const char* name;
};

constexpr std::array kNeeded = {
    FeatureName{UFFD_FEATURE_MISSING_SHMEM, "MISSING_SHMEM"},
    FeatureName{UFFD_FEATURE_EVENT_REMOVE, "EVENT_REMOVE"},
    FeatureName{UFFD_FEATURE_THREAD_ID, "THREAD_ID"},
};
constexpr std::array kUseful = {
    FeatureName{UFFD_FEATURE_MISSING_HUGETLBFS, "MISSING_HUGETLBFS (huge pages)"},
    FeatureName{kFeaturePoison, "POISON (kernel 6.6)"},
};
constexpr std::array kTracking = {
    FeatureName{UFFD_FEATURE_PAGEFAULT_FLAG_WP, "PAGEFAULT_FLAG_WP"},
    FeatureName{UFFD_FEATURE_WP_HUGETLBFS_SHMEM, "WP_HUGETLBFS_SHMEM (kernel 5.19)"},
    FeatureName{kFeatureWpAsync, "WP_ASYNC (kernel 6.7)"},
};

template <size_t kCount>
std::string Absent(const std::array<FeatureName, kCount>& wanted, uint64_t features) {
  std::string names;
  for (const FeatureName& feature : wanted) {
    if ((features & feature.bit) != 0) continue;
    if (!names.empty()) names += ", ";
    names += feature.name;
  }
  return names;
}

DoctorLine JudgeKernel(const HostFacts& facts) {
  int major = 0;
  int minor = 0;
  DoctorLine line{"kernel", DoctorLevel::kOk, facts.kernel_release, ""};
  if (sscanf(facts.kernel_release.c_str(), "%d.%d", &major, &minor) != 2) {
    line.level = DoctorLevel::kWarn;
    line.mend = "Its version cannot be read; the lines below say what it can do.";
  } else if (major < 5 || (major == 5 && minor < 11)) {
    line.level = DoctorLevel::kWarn;
    line.mend = "Kernels before 5.11 are not tested; use 6.1 or later.";
  }
  return line;
}

DoctorLine JudgeUserfaultfd(const HostFacts& facts) {
  DoctorLine line{"userfaultfd", DoctorLevel::kOk, "", ""};
  if (facts.userfaultfd_call_errno == 0) {
    line.finding = "this user may make one";
  } else if (facts.userfaultfd_device_errno == 0) {
    line.finding = "this user may make one through /dev/userfaultfd";
  } else if (facts.userfaultfd_call_errno == ENOSYS) {
    line.level = DoctorLevel::kFail;
    line.finding = "this kernel has none";
    line.mend = "Run a kernel built with CONFIG_USERFAULTFD.";
  } else {
    line.level = DoctorLevel::kFail;
    line.finding = fmt::format("not permitted: the system call says '{}', /dev/userfaultfd '{}'",
                               strerror(facts.userfaultfd_call_errno),
                               strerror(facts.userfaultfd_device_errno));
    line.mend =
        facts.is_root
            ? "Something filters system calls here (a container?): allow userfaultfd, or pass "
              "/dev/userfaultfd into the container."
            : "Give this user /dev/userfaultfd (chgrp kvm, chmod g+rw), or run 'faultline receive' "
              "as root, or set sysctl vm.unprivileged_userfaultfd=1.";
  }
  return line;
}

DoctorLine JudgeFeatures(const HostFacts& facts) {
  DoctorLine line{"userfaultfd features", DoctorLevel::kOk, "", ""};
  if (facts.userfaultfd_features == 0) {
    line.level = DoctorLevel::kFail;
    line.finding = "cannot be asked without a userfaultfd";
    line.mend = "Mend the line above first.";
    return line;
  }
  std::string needed = Absent(kNeeded, facts.userfaultfd_features);
  std::string useful = Absent(kUseful, facts.userfaultfd_features);
  if (!needed.empty()) {
    line.level = DoctorLevel::kFail;
    line.finding = "not in this kernel: " + needed;
    line.mend = "Run a newer kernel (6.1 or later) built with CONFIG_SHMEM.";
  } else if (!useful.empty()) {
    line.level = DoctorLevel::kWarn;
    line.finding = "all that is needed; not in this kernel: " + useful;
    line.mend = "Post-copy works without; only what is named is not available.";
  } else {
    line.finding = "all";
  }
  return line;
}

// As a source of hybrid migrations and pre-copy.
DoctorLine JudgeTracking(const HostFacts& facts) {
  DoctorLine line{"dirty tracking", DoctorLevel::kOk, "", ""};
  const std::string absent = Absent(kTracking, facts.userfaultfd_features);
  if (absent.empty()) {
    line.finding = "by write protection, for a VM that has the hook in it";
    return line;
  }
  if (facts.soft_dirty) {
    line.finding = "by soft-dirty bits, for a VM that has the hook in it and no RAM on hugetlbfs";
    line.mend =
        "The VM is stopped for a moment at every look at its memory; Linux 6.7 needs no stop.";
    return line;
  }
  line.level = DoctorLevel::kWarn;
  line.finding = "not in this kernel: " + absent;
  line.mend =
      "VMs leave this host by --mode postcopy only; hybrid and precopy need Linux 6.7 or later "
      "here.";
  return line;
}

DoctorLine JudgeShm(const HostFacts& facts) {
  DoctorLine line{"/dev/shm", DoctorLevel::kOk, "", ""};
  if (facts.shm_file_system != "tmpfs") {
    line.level = DoctorLevel::kWarn;
    line.finding = facts.shm_file_system.empty() ? "not mounted" : "a " + facts.shm_file_system;
    line.mend = "Mount a tmpfs there, or put the VM's RAM file on another tmpfs or on hugetlbfs.";
    return line;
  }
  line.finding = fmt::format("tmpfs, {} of {} free", FormatBytes(facts.shm_free_bytes),
                             FormatBytes(facts.shm_size_bytes));
  for (const char* huge : {"huge=always", "huge=within_size"}) {
    if (("," + facts.shm_options + ",").find(fmt::format(",{},", huge)) == std::string::npos) {
      continue;
    }
    line.level = DoctorLevel::kWarn;
    line.finding += fmt::format(", mounted with {}", huge);
    line.mend =
        "A RAM file there is refused, because a huge page hides missing ones: run 'mount -o "
        "remount,huge=never /dev/shm', or use another tmpfs.";
  }
  if (facts.shm_free_bytes == 0 && line.mend.empty()) {
    line.level = DoctorLevel::kWarn;
    line.mend = "It is full: a VM's whole memory must fit into it.";
  }
  return line;
}

DoctorLine JudgeShmemHugePages(const HostFacts& facts) {
  DoctorLine line{"huge pages of tmpfs", DoctorLevel::kOk, "", ""};
  line.finding = facts.shmem_enabled.empty() ? "not in this kernel"
                                             : "shmem_enabled is " + facts.shmem_enabled;
  if (facts.shmem_enabled == "force") {
    line.level = DoctorLevel::kWarn;
    line.mend =
        "Every RAM file on tmpfs is refused: write 'never' to "
        "/sys/kernel/mm/transparent_hugepage/shmem_enabled.";
  }
  return line;
}

DoctorLine JudgeHugePages(const HostFacts& facts) {
  DoctorLine line{"hugetlb", DoctorLevel::kOk, "", ""};
  for (const HugePagePool& pool : facts.huge_pages) {
    if (pool.pages_total == 0) continue;
    if (!line.finding.empty()) line.finding += ", ";
    line.finding += fmt::format("{} of {} pages of {} free", pool.pages_free, pool.pages_total,
                                FormatBytes(pool.page_size_bytes));
  }
  // Only VMs that want them need them.
  if (line.finding.empty()) line.finding = "no pages set aside (only VMs on hugetlbfs need them)";
  return line;
}

DoctorLine JudgeKvm(const HostFacts& facts) {
  DoctorLine line{"KVM", DoctorLevel::kOk, "usable", ""};
  if (facts.kvm_errno == 0) return line;
  line.level = DoctorLevel::kWarn;
  line.finding = fmt::format("/dev/kvm cannot be opened: {}", strerror(facts.kvm_errno));
  line.mend = facts.kvm_errno == EACCES || facts.kvm_errno == EPERM
                  ? "Add this user to the group of /dev/kvm; without KVM, VMs run slowly (TCG)."
                  : "Load kvm_intel or kvm_amd, or enable nesting; without KVM, VMs run slowly "
                    "(TCG).";
  return line;
}

DoctorLine JudgeHook(const HostFacts& facts) {
  DoctorLine line{"hook", DoctorLevel::kOk, facts.hook_library, ""};
  if (!facts.hook_library.empty()) return line;
  line.level = DoctorLevel::kFail;
  line.finding = facts.hook_error;
  line.mend = "Build it ('./dev build' leaves it beside faultline), or tell where it is.";
  return line;
}

DoctorLine JudgeQemu(const HostFacts& facts) {
  DoctorLine line{"QEMU", DoctorLevel::kOk, facts.qemu_version, ""};
  if (facts.qemu_version.empty()) {
    line.level = DoctorLevel::kFail;
    line.finding = facts.qemu_error;
    line.mend = "Install it (Debian: qemu-system-x86), or name yours with --qemu PROGRAM.";
    return line;
  }
  int major = 0;
  int minor = 0;
  size_t at = facts.qemu_version.find("version ");
  if (at == std::string::npos ||
      sscanf(facts.qemu_version.c_str() + at, "version %d.%d", &major, &minor) != 2 || major < 7 ||
      (major == 7 && minor < 2)) {
    line.level = DoctorLevel::kWarn;
    line.mend = "QEMU before 7.2 is not tested.";
    return line;
  }
  line.finding += facts.qemu_has_plugins
                      ? ", loads plugins"
                      : ", compiled without plugins: the hook goes in by LD_PRELOAD";
  return line;
}

DoctorLine JudgeSandbox(const HostFacts& facts) {
  DoctorLine line{"sandbox", DoctorLevel::kOk, "system calls can be filtered", ""};
  if (facts.sandbox_error.empty()) return line;
  line.level = DoctorLevel::kWarn;
  line.finding = "system calls cannot be filtered: " + facts.sandbox_error;
  line.mend =
      "Migrations work, with more rights than they need. Run a kernel built with "
      "CONFIG_SECCOMP_FILTER, and allow seccomp where something filters system calls here.";
  return line;
}

DoctorLine JudgeMemlock(const HostFacts& facts) {
  DoctorLine line{"locked memory", DoctorLevel::kOk, "", ""};
  line.finding =
      facts.memlock_bytes == UINT64_MAX
          ? "no limit"
          : "limit " + FormatBytes(facts.memlock_bytes) +
                " (only rdma:// needs more: the VM's whole memory is pinned on the source)";
  return line;
}

}  // namespace

std::vector<DoctorLine> JudgeHost(const HostFacts& facts) {
  return {JudgeKernel(facts),    JudgeUserfaultfd(facts), JudgeFeatures(facts),
          JudgeTracking(facts),  JudgeShm(facts),         JudgeShmemHugePages(facts),
          JudgeHugePages(facts), JudgeKvm(facts),         JudgeHook(facts),
          JudgeQemu(facts),      JudgeSandbox(facts),     JudgeMemlock(facts)};
}

DoctorLine JudgeTls(const TlsFacts& facts) {
  DoctorLine line{"TLS", DoctorLevel::kOk, "", ""};
  if (!facts.directory.ok()) {
    line.level = DoctorLevel::kWarn;
    line.finding = MessageOf(facts.directory.status());
    line.mend =
        "Beyond loopback migrations need certificates (docs/operators-guide.md), or --tls-psk.";
    return line;
  }
  line.finding = *facts.directory;
  const std::array sides = {std::pair{"source", &facts.as_source},
                            std::pair{"destination", &facts.as_destination}};
  for (const auto& [side, valid_until] : sides) {
    if (valid_until->ok()) {
      line.finding += fmt::format(", as {} valid until {}", side, **valid_until);
      continue;
    }
    line.finding += fmt::format(", no {} here", side);
    // A host that only ever gives VMs away needs no certificate to receive them.
    if (absl::IsNotFound(valid_until->status()) &&
        (facts.as_source.ok() || facts.as_destination.ok())) {
      continue;
    }
    line.level = DoctorLevel::kWarn;
    if (!line.mend.empty()) line.mend += "; ";
    line.mend += fmt::format("As {}: {}", side, MessageOf(valid_until->status()));
  }
  return line;
}

DoctorLine JudgeRdma(const RdmaFacts& facts) {
  DoctorLine line{"RDMA", DoctorLevel::kOk, "", ""};
  if (!facts.built_in) {
    line.finding = "this program was built without it (only rdma:// needs it)";
  } else if (facts.ports.empty()) {
    line.finding = "no device (only rdma:// needs one)";
  } else {
    line.finding = fmt::format("{}", fmt::join(facts.ports, "; "));
  }
  if (facts.ports.empty() || facts.any_active) return line;
  line.level = DoctorLevel::kWarn;
  line.mend = "No port is active: see `rdma link`, the cable, and that its network device is up.";
  return line;
}

bool PostCopyPossible(const std::vector<DoctorLine>& lines) {
  return std::none_of(lines.begin(), lines.end(),
                      [](const DoctorLine& line) { return line.level == DoctorLevel::kFail; });
}

}  // namespace faultline
