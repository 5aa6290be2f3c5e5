// Is the destination's RAM file nobody else's, and empty?
#ifndef FAULTLINE_MEMORY_DESTINATION_RAM_CHECK_H_
#define FAULTLINE_MEMORY_DESTINATION_RAM_CHECK_H_

#include <span>

#include "base/status.h"
#include "memory/ram_file_users.h"
#include "seams/vm_description.h"

namespace faultline {

// Refuses (FailedPrecondition) if a process other than `vm_process_id` and this one maps a region's
// file: then it may be a running VM's, the source's own included. `users` is FindFileUsers of the
// regions' files, in their order.
absl::Status CheckNobodyElseMaps(std::span<const RamRegion> regions, const FileUsers& users,
                                 int vm_process_id);

// Makes sure that no region's file holds data. Leftovers are punched only if `may_punch` (the VM
// waits for its memory and has none yet), nobody else has the file open, and every process could
// be looked into; otherwise the sentence says what stands in the way.
absl::Status EnsureEmpty(std::span<const RamRegion> regions, const FileUsers& users,
                         int vm_process_id, bool may_punch);

// Refuses a tmpfs that hands out huge pages by itself (mounted huge=always or within_size): there a
// page could not be given back or found missing on its own.
absl::Status CheckNoHugeTmpfs(std::span<const RamRegion> regions);

}  // namespace faultline

#endif  // FAULTLINE_MEMORY_DESTINATION_RAM_CHECK_H_
