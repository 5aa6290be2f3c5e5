// What a driver has found out about a VM before anything is judged: plain data.
#ifndef FAULTLINE_VMM_QEMU_VM_FACTS_H_
#define FAULTLINE_VMM_QEMU_VM_FACTS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace faultline {

struct QemuVersion {
  int major = 0;
  int minor = 0;
  int micro = 0;

  bool AtLeast(int wanted_major, int wanted_minor) const {
    return major > wanted_major || (major == wanted_major && minor >= wanted_minor);
  }
};

// One line of `info ramblock`.
struct RamBlock {
  std::string name;
  uint64_t page_size_bytes = 0;
  uint64_t used_bytes = 0;
  uint64_t total_bytes = 0;
  uint64_t host_address = 0;  // 0: this QEMU does not tell
  friend bool operator==(const RamBlock&, const RamBlock&) = default;
};

enum class FileSystem : uint8_t { kTmpfs = 1, kHugetlbfs = 2, kOther = 3 };

// A memory-backend-* object.
struct MemoryBackend {
  std::string id;
  std::string type;
  std::string mem_path;
  uint64_t size_bytes = 0;
  uint64_t offset_bytes = 0;
  bool share = false;
  bool readonly = false;
  bool discard_data = false;

  // Filled in for files that could be opened.
  FileSystem file_system = FileSystem::kOther;
  std::string mount_options;  // "rw,size=1g,huge=always"
};

// One line of /proc/PID/maps.
struct ProcessMapping {
  uint64_t start = 0;
  uint64_t end = 0;
  uint64_t offset = 0;
  bool shared = false;
  uint64_t device = 0;  // as makedev() gives it
  uint64_t inode = 0;
  std::string path;
};

// A device or object that somebody asked for (-device, -object, or hot-plugged).
struct VmDevice {
  std::string name;
  std::string type;
  friend bool operator==(const VmDevice&, const VmDevice&) = default;
};

struct VmFacts {
  QemuVersion version;
  std::string version_text;                  // "QEMU 7.2.22"
  std::string status;                        // query-status: "running"
  std::string migration_status;              // query-migrate: "", "active", ...
  std::vector<std::string> blocked_reasons;  // why QEMU itself would refuse to migrate
  std::map<std::string, bool> capabilities;
  std::string migration_mode;  // "" before QEMU 8.2
  std::string tls_creds;
  uint64_t max_bandwidth = 0;
  std::vector<RamBlock> blocks;
  std::vector<MemoryBackend> backends;
  std::vector<VmDevice> devices;
  std::string network_text;                // `info network`
  std::vector<std::string> block_drivers;  // of all block nodes
  bool direct_nodes = false;               // one bypasses the page cache, or nobody can tell
  bool confidential = false;               // SEV, TDX or another confidential-guest-support
  uint64_t locked_bytes = 0;               // VmLck of QEMU's process
  std::vector<ProcessMapping> mappings;    // of QEMU's process
  bool huge_shmem_forced = false;          // the host forces huge pages on every tmpfs
};

}  // namespace faultline

#endif  // FAULTLINE_VMM_QEMU_VM_FACTS_H_
