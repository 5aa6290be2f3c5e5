// From addresses in the VM's process to pages and back.
#ifndef FAULTLINE_MEMORY_ADDRESS_MAP_H_
#define FAULTLINE_MEMORY_ADDRESS_MAP_H_

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/status.h"
#include "pages/memory_layout.h"
#include "pages/page_types.h"

namespace faultline {

// Immutable, so any thread. A region is one continuous range of addresses (the kernel may have cut
// it into several mappings; nobody here can tell).
class AddressMap {
 public:
  // `host_addresses[i]` is where region i of `layout` begins. InvalidArgument if one is not at a
  // whole page or two overlap.
  static absl::StatusOr<AddressMap> Make(const MemoryLayout& layout,
                                         std::span<const uint64_t> host_addresses);

  // The page that `address` lies in; none if that is no region's.
  std::optional<PageId> PageAt(uint64_t address) const;
  // The whole pages inside [first, end), as one run for each region that the range touches. A page
  // that is covered only in part is left out: its other part is still wanted.
  std::vector<PageRun> RunsIn(uint64_t first, uint64_t end) const;
  uint64_t AddressOf(PageId page) const;
  uint64_t page_size_bytes(RegionIndex region) const { return regions_[region].page_size_bytes; }
  uint64_t page_count(RegionIndex region) const { return regions_[region].page_count(); }
  size_t region_count() const { return regions_.size(); }
  bool Contains(PageRun run) const {
    return run.region < regions_.size() && run.first <= run.end() &&
           run.end() <= page_count(run.region);
  }

 private:
  struct Region {
    uint64_t first = 0;  // address
    uint64_t end = 0;
    uint64_t page_size_bytes = 0;
    uint64_t page_count() const { return (end - first) / page_size_bytes; }
  };

  std::vector<Region> regions_;      // by RegionIndex
  std::vector<RegionIndex> sorted_;  // by address
};

}  // namespace faultline

#endif  // FAULTLINE_MEMORY_ADDRESS_MAP_H_
