// The source VM's memory, read from outside its process.
#ifndef FAULTLINE_SEAMS_SOURCE_MEMORY_H_
#define FAULTLINE_SEAMS_SOURCE_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "pages/memory_layout.h"
#include "pages/page_range_set.h"
#include "pages/page_types.h"
#include "seams/vm_description.h"

namespace faultline {

// For each region the pages that hold data; all others read zero.
using AllocationMap = std::vector<PageRangeSet>;

class SourceMemory {
 public:
  virtual ~SourceMemory() = default;

  virtual const MemoryLayout& layout() const = 0;
  // Reads which pages the VM ever allocated. The VM must stand still for the answer to last. Any
  // thread; milliseconds for a GiB.
  virtual absl::StatusOr<AllocationMap> ReadAllocationMap() = 0;
  // Copies bytes of one region, from `offset_bytes` on, into `out`. Holes read zero and stay holes.
  // Any thread.
  virtual absl::Status Read(RegionIndex region, uint64_t offset_bytes,
                            std::span<std::byte> out) const = 0;
  // The region's bytes, for a device to read (RDMA); valid as long as this. They are mapped
  // writable (docs/adr/0024-stale-pins.md), and nobody touches them through it: a hole that is
  // touched is one no more. Each `view`, from 0 on, is a mapping of its own, with page tables that
  // no other device's pins fill. Control thread. Unimplemented: this memory has no such view.
  virtual absl::StatusOr<std::span<std::byte>> Map(RegionIndex region, size_t view) {
    (void)region;
    (void)view;
    return absl::UnimplementedError("this memory cannot be mapped for devices to read");
  }
};

// Takes hold of a source's memory.
class SourceMemoryFactory {
 public:
  virtual ~SourceMemoryFactory() = default;
  // Maps the VM's RAM files for reading. Control thread.
  virtual absl::StatusOr<std::unique_ptr<SourceMemory>> Open(const VmDescription& vm) = 0;
};

}  // namespace faultline

#endif  // FAULTLINE_SEAMS_SOURCE_MEMORY_H_
