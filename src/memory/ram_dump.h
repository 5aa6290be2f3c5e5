// What a destination has of a VM whose source is lost: which pages are there, and a copy of them.
#ifndef FAULTLINE_MEMORY_RAM_DUMP_H_
#define FAULTLINE_MEMORY_RAM_DUMP_H_

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "pages/page_range_set.h"
#include "pages/page_table.h"
#include "seams/vm_description.h"

namespace faultline {

struct DumpedRegion {
  RegionLayout layout;
  uint64_t offset_bytes = 0;  // in the dump
  PageRangeSet missing;       // holes in the dump that are no zeros: nobody here knows these pages
};

// Writes the regions of `vm`, one after the other, into `file`, which is empty; what is zero stays
// a hole there. `table` is the VM's: a page that it calls missing and that the RAM file has all the
// same landed whole before the engine died, and counts as there. Nothing in the VM's own files
// changes, nor is a page allocated in them. Errors name the region.
absl::StatusOr<std::vector<DumpedRegion>> DumpRam(const VmDescription& vm, const PageTable& table,
                                                  int file);

}  // namespace faultline

#endif  // FAULTLINE_MEMORY_RAM_DUMP_H_
