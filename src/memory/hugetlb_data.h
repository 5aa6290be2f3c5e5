// Which huge pages of a hugetlbfs file hold data: the file system itself answers "all".
#ifndef FAULTLINE_MEMORY_HUGETLB_DATA_H_
#define FAULTLINE_MEMORY_HUGETLB_DATA_H_

#include "base/status.h"
#include "pages/page_range_set.h"
#include "seams/vm_description.h"

namespace faultline {

// Asks the kernel to map each page of the file that exists (UFFDIO_CONTINUE) in a mapping made for
// it; exact and fast. Needs a file that may be opened for writing, and userfaultfd.
absl::StatusOr<PageRangeSet> FindHugetlbPagesByContinue(const RamRegion& region);

// Reads the file and finds the pages that are not all zero. About 0.1 s a GiB; always possible.
absl::StatusOr<PageRangeSet> FindHugetlbPagesByReading(const RamRegion& region);

}  // namespace faultline

#endif  // FAULTLINE_MEMORY_HUGETLB_DATA_H_
