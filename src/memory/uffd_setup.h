// Making and setting up a userfaultfd in this process.
#ifndef FAULTLINE_MEMORY_UFFD_SETUP_H_
#define FAULTLINE_MEMORY_UFFD_SETUP_H_

#include <cstdint>
#include <string>

#include "base/file_descriptor.h"
#include "base/status.h"

namespace faultline {

// What post-copy needs of the kernel; all since Linux 4.14.
uint64_t PostCopyUffdFeatures();

// The names of the UFFD_FEATURE_* bits in `features`: "EVENT_REMOVE, MISSING_SHMEM".
std::string UffdFeatureNames(uint64_t features);

// A new userfaultfd (close-on-exec, non-blocking) that takes faults of the kernel too, not set up
// yet. PermissionDenied and Unimplemented carry the sentence with the mend.
absl::StatusOr<FileDescriptor> MakeUffd();

// Sets `uffd` up with `features`. Unimplemented names those that this kernel lacks.
absl::Status SetUpUffd(int uffd, uint64_t features);

// Registers one range for missing pages and returns the mask of ioctls that the kernel allows
// there. The error is the sentence for `name`.
absl::StatusOr<uint64_t> RegisterMissing(int uffd, uint64_t address, uint64_t size_bytes,
                                         const std::string& name);

}  // namespace faultline

#endif  // FAULTLINE_MEMORY_UFFD_SETUP_H_
