// What `faultline doctor` finds out about a host: plain data, no verdicts.
#ifndef FAULTLINE_CLI_HOST_FACTS_H_
#define FAULTLINE_CLI_HOST_FACTS_H_

#include <cstdint>
#include <string>
#include <vector>

namespace faultline {

struct HugePagePool {
  uint64_t page_size_bytes = 0;
  uint64_t pages_total = 0;
  uint64_t pages_free = 0;
};

struct HostFacts {
  std::string kernel_release;  // "6.1.0-18-amd64"

  // The two ways to a userfaultfd: 0 if it works, else the errno.
  int userfaultfd_call_errno = 0;
  int userfaultfd_device_errno = 0;
  uint64_t userfaultfd_features = 0;  // UFFD_FEATURE_*; 0 if neither way works
  bool soft_dirty = false;            // the kernel counts writes by soft-dirty bits
  bool is_root = false;

  std::string shm_file_system;  // "tmpfs"; empty: /dev/shm is not mounted
  std::string shm_options;      // "rw,size=1g,huge=always"
  uint64_t shm_size_bytes = 0;
  uint64_t shm_free_bytes = 0;
  std::string shmem_enabled;  // the chosen word of .../transparent_hugepage/shmem_enabled

  std::vector<HugePagePool> huge_pages;

  int kvm_errno = 0;  // of opening /dev/kvm
  std::string hook_library;
  std::string hook_error;  // why hook_library is empty
  std::string qemu;        // the program that was asked
  std::string qemu_version;
  std::string qemu_error;  // why qemu_version is empty
  bool qemu_has_plugins = false;

  std::string sandbox_error;   // why the kernel takes no filter of system calls; empty: it does
  uint64_t memlock_bytes = 0;  // that this user may pin; UINT64_MAX: no limit
};

// Looks; changes nothing. `qemu` and `hook_library` may be empty: the usual ones. Takes some tenths
// of a second (it starts QEMU twice, to ask for its version and its help).
HostFacts GatherHostFacts(const std::string& qemu, const std::string& hook_library);

}  // namespace faultline

#endif  // FAULTLINE_CLI_HOST_FACTS_H_
