// Arms memory of this very process (programs that use the C ABI).
#ifndef FAULTLINE_MEMORY_LOCAL_ARMER_H_
#define FAULTLINE_MEMORY_LOCAL_ARMER_H_

#include "base/file_descriptor.h"
#include "memory/memory_armer.h"

namespace faultline {

class LocalArmer : public MemoryArmer {
 public:
  // Makes its own userfaultfd: by userfaultfd(2), or by /dev/userfaultfd where that is not allowed.
  LocalArmer() = default;
  // Uses the program's, which it may have set up (UFFDIO_API) already, then with the features that
  // Arm would ask for.
  explicit LocalArmer(FileDescriptor uffd) : given_(std::move(uffd)) {}

  absl::StatusOr<int> Attach() override;
  // The regions' host addresses must be known. Huge pages are turned off for them (and stay off):
  // a page must land as one.
  absl::StatusOr<ArmedMemory> Arm(std::span<const RamRegion> regions,
                                  const FileDescriptor& page_state_memfd,
                                  uint64_t features) override;
  // Nothing outlives this process.
  absl::StatusOr<TakenMemory> Take(std::span<const RamRegion> regions) override;
  absl::Status Release() override { return absl::OkStatus(); }

 private:
  FileDescriptor given_;
};

}  // namespace faultline

#endif  // FAULTLINE_MEMORY_LOCAL_ARMER_H_
