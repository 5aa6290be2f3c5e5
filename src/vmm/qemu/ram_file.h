// The file behind a RAM block: opening the very one that QEMU has mapped.
#ifndef FAULTLINE_VMM_QEMU_RAM_FILE_H_
#define FAULTLINE_VMM_QEMU_RAM_FILE_H_

#include <string>
#include <vector>

#include "base/file_descriptor.h"
#include "base/status.h"
#include "vmm/qemu/vm_checks.h"
#include "vmm/qemu/vm_facts.h"

namespace faultline {

struct RamFile {
  FileDescriptor fd;
  FileSystem file_system = FileSystem::kOther;
  std::string mount_options;
  uint64_t host_address = 0;  // in QEMU's process; 0 if not known
};

// Opens the file of `block`, by its path or, where the path is a directory or names another file in
// this mount namespace, through QEMU's own process `pid` (0: not known). `mappings` are that
// process's (empty: it could not be read, and the path is trusted). Errors name the path.
absl::StatusOr<RamFile> OpenRamFile(const MigratedBlock& block,
                                    const std::vector<ProcessMapping>& mappings, int pid,
                                    bool writable);

}  // namespace faultline

#endif  // FAULTLINE_VMM_QEMU_RAM_FILE_H_
