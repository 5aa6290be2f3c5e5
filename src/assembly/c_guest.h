// The guest of a C program: its regions, and its callbacks as the VMM drivers want them.
#ifndef FAULTLINE_ASSEMBLY_C_GUEST_H_
#define FAULTLINE_ASSEMBLY_C_GUEST_H_

#include <faultline/faultline.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "assembly/c_session.h"
#include "base/status.h"
#include "seams/vm_description.h"
#include "vmm/callbacks/callback_destination_vmm.h"
#include "vmm/callbacks/callback_source_vmm.h"

namespace faultline {

// A region that was added, with a duplicate of its file.
struct CRegion {
  RegionLayout layout;
  std::shared_ptr<FileDescriptor> file;  // null: none
  uint64_t file_offset_bytes = 0;
  uint64_t host_address = 0;
};

// Checks a region's fields by themselves and takes what it needs of them.
absl::StatusOr<CRegion> ReadRegion(const faultline_region* region);

// The guest as its side describes it; the regions must suit the side. The files in it are open as
// long as what FilesOf returns.
absl::StatusOr<VmDescription> DescribeSource(std::span<const CRegion> regions,
                                             const faultline_options& options);
absl::StatusOr<VmDescription> DescribeDestination(std::span<const CRegion> regions,
                                                  const faultline_options& options);
RegionFiles FilesOf(std::span<const CRegion> regions);

// The calls mark their thread in `guard` while the program's code runs.
SourceCallbacks BindSource(const faultline_source_callbacks& callbacks, void* user,
                           std::shared_ptr<CallbackGuard> guard);
DestinationCallbacks BindDestination(const faultline_destination_callbacks& callbacks, void* user,
                                     std::shared_ptr<CallbackGuard> guard);

}  // namespace faultline

#endif  // FAULTLINE_ASSEMBLY_C_GUEST_H_
