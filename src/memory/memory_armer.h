// Making the VM's memory wait for missing pages: done inside the VM's process, by the hook in QEMU
// or by this process for its own memory.
#ifndef FAULTLINE_MEMORY_MEMORY_ARMER_H_
#define FAULTLINE_MEMORY_MEMORY_ARMER_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/file_descriptor.h"
#include "base/status.h"
#include "seams/vm_description.h"

namespace faultline {

struct ArmedRange {
  uint64_t host_address = 0;  // in the VM's process
  uint64_t ioctls = 0;        // the mask that UFFDIO_REGISTER returned
};

struct ArmedMemory {
  FileDescriptor uffd;              // non-blocking
  std::vector<ArmedRange> regions;  // one for each region asked for, in that order
  FileDescriptor process{};         // a pidfd of the VM's process; none: it cannot be named
};

// What an engine before this one had armed.
struct TakenMemory {
  ArmedMemory armed;
  FileDescriptor page_state_memfd;
};

// Control thread, except Release.
class MemoryArmer {
 public:
  virtual ~MemoryArmer() = default;
  // Reaches the VM's process and returns its id, as this process sees it (0: unknown). Comes first,
  // once.
  virtual absl::StatusOr<int> Attach() = 0;
  // Registers every region MISSING with a userfaultfd that has `features` (UFFD_FEATURE_*), and
  // makes the VM's process keep `page_state_memfd` (which stays the caller's). An error is the
  // sentence for the user, and leaves nothing registered.
  virtual absl::StatusOr<ArmedMemory> Arm(std::span<const RamRegion> regions,
                                          const FileDescriptor& page_state_memfd,
                                          uint64_t features) = 0;
  // What another process armed by Arm, and died: the regions must be the same ones. NotFound:
  // nothing is armed.
  virtual absl::StatusOr<TakenMemory> Take(std::span<const RamRegion> regions) = 0;
  // Every range is unregistered: the VM's process closes what it kept. DeadlineExceeded: it was
  // told, and has not answered. Any thread, once.
  virtual absl::Status Release() = 0;
};

}  // namespace faultline

#endif  // FAULTLINE_MEMORY_MEMORY_ARMER_H_
