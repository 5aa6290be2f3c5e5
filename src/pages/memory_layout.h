// The shape of a VM's migratable memory, and the comparison of both sides' shapes.
#ifndef FAULTLINE_PAGES_MEMORY_LAYOUT_H_
#define FAULTLINE_PAGES_MEMORY_LAYOUT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "pages/page_types.h"

namespace faultline {

struct RegionLayout {
  std::string name;              // the hypervisor's name of the RAM block
  uint64_t size_bytes = 0;       // a multiple of page_size_bytes
  uint64_t page_size_bytes = 0;  // 4 KiB, or the huge page size of its file system

  uint64_t page_count() const { return size_bytes / page_size_bytes; }
  friend bool operator==(const RegionLayout&, const RegionLayout&) = default;
};

// Regions in an order of the source's choosing; RegionIndex counts through it.
using MemoryLayout = std::vector<RegionLayout>;

inline constexpr uint64_t kRegionsMax = 256;
inline constexpr uint64_t kRegionBytesMax = uint64_t{1} << 46;
inline constexpr uint64_t kPageBytesMin = 4096;
inline constexpr uint64_t kPageBytesMax = uint64_t{1} << 30;

// Limits, distinct names, sizes that are whole pages. The error names the region and the field.
absl::Status ValidateLayout(const MemoryLayout& layout);

// Puts `destination` in the order of `source`. Returns, for each source region, the index of its
// counterpart. The error names what differs (count, name, size, page size), both values, and the
// mend.
absl::StatusOr<std::vector<RegionIndex>> MatchLayouts(const MemoryLayout& source,
                                                      const MemoryLayout& destination);

uint64_t TotalPages(const MemoryLayout& layout);
uint64_t TotalBytes(const MemoryLayout& layout);

}  // namespace faultline

#endif  // FAULTLINE_PAGES_MEMORY_LAYOUT_H_
