// The RAM files of a migration that another process of ours began, found again.
#ifndef FAULTLINE_VMM_QEMU_KEPT_RAM_H_
#define FAULTLINE_VMM_QEMU_KEPT_RAM_H_

#include <span>
#include <vector>

#include "base/file_descriptor.h"
#include "base/status.h"
#include "seams/journal.h"
#include "seams/vm_description.h"

namespace faultline {

struct KeptRam {
  VmDescription description;
  std::vector<FileDescriptor> files;  // what description.regions[].file refers to, in its order
};

// Opens each region's file and sees that it is the one that it was. NotFound: it is gone;
// FailedPrecondition: another file is in its place. Both name the path and what follows.
absl::StatusOr<KeptRam> OpenKeptRam(std::span<const KeptRegion> regions, bool writable);

}  // namespace faultline

#endif  // FAULTLINE_VMM_QEMU_KEPT_RAM_H_
