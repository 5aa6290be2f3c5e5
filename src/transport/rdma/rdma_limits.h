// How much a bulk lane beside RDMA has under way, on both sides. Pure.
#ifndef FAULTLINE_TRANSPORT_RDMA_RDMA_LIMITS_H_
#define FAULTLINE_TRANSPORT_RDMA_RDMA_LIMITS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "pages/memory_layout.h"

namespace faultline {

// Bytes of pages in one run, at most (or one page).
inline constexpr uint64_t kRdmaRunBytesMax = 256 * 1024;
// Runs that the source has named and the destination has not taken yet, for each rail.
inline constexpr uint32_t kRdmaRunsNamedMax = 16;
// A larger page is sent, and neither read nor written.
inline constexpr uint64_t kRdmaPageBytesMax = 2 * 1024 * 1024;
// READs or WRITEs of the push under way on one rail: 1 MiB, which devices share out packet by
// packet with the demand READs.
inline constexpr uint32_t kRdmaRunsUnderWayMax = 4;
// Slots that are granted for WRITEs on one rail: while one is being put into the VM, another is
// written into.
inline constexpr uint16_t kRdmaSlotsGranted = 2 * kRdmaRunsUnderWayMax;

// The largest page of `layout` that RDMA carries, and no less than 4 KiB.
inline uint64_t RdmaPageBytes(const MemoryLayout& layout) {
  uint64_t bytes = 4096;
  for (const RegionLayout& region : layout) {
    if (region.page_size_bytes > kRdmaPageBytesMax) continue;
    bytes = std::max(bytes, region.page_size_bytes);
  }
  return bytes;
}

// What a slot of the bulk lane holds: any run that is not sent.
inline uint64_t RdmaBulkSlotBytes(const MemoryLayout& layout) {
  return std::max(RdmaPageBytes(layout), kRdmaRunBytesMax);
}

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_RDMA_LIMITS_H_
