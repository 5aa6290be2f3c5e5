// The source VM's memory, read through its RAM files.
#ifndef FAULTLINE_MEMORY_RAM_FILE_SOURCE_H_
#define FAULTLINE_MEMORY_RAM_FILE_SOURCE_H_

#include <memory>
#include <vector>

#include "memory/mapping.h"
#include "memory/ram_file.h"
#include "seams/source_memory.h"

namespace faultline {

class RamFileSource : public SourceMemory {
 public:
  // The files must stay open as long as this lives. FailedPrecondition names the region
  // that has no file, lies on a disk, or is shorter than it says.
  static absl::StatusOr<std::unique_ptr<RamFileSource>> Make(const VmDescription& vm);

  const MemoryLayout& layout() const override { return layout_; }
  absl::StatusOr<AllocationMap> ReadAllocationMap() override;
  // Mapped at the first call. FailedPrecondition: this process may not write the file.
  absl::StatusOr<std::span<std::byte>> Map(RegionIndex region, size_t view) override;
  // By pread: no page of the file is mapped for it, which would cost more to undo than the copy.
  absl::Status Read(RegionIndex region, uint64_t offset_bytes,
                    std::span<std::byte> out) const override;

 private:
  struct Region {
    RamRegion ram;
    RamFileKind kind = RamFileKind::kTmpfs;
  };

  explicit RamFileSource(std::vector<Region> regions);

  const std::vector<Region> regions_;
  std::vector<std::vector<Mapping>> views_;  // each with one mapping, or none, for each region
  MemoryLayout layout_;
};

class RamFileSourceFactory : public SourceMemoryFactory {
 public:
  absl::StatusOr<std::unique_ptr<SourceMemory>> Open(const VmDescription& vm) override;
};

}  // namespace faultline

#endif  // FAULTLINE_MEMORY_RAM_FILE_SOURCE_H_
