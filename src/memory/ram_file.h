// A region's RAM file: where data is in it.
#ifndef FAULTLINE_MEMORY_RAM_FILE_H_
#define FAULTLINE_MEMORY_RAM_FILE_H_

#include <cstdint>

#include "base/status.h"
#include "pages/page_range_set.h"
#include "seams/vm_description.h"

namespace faultline {

enum class RamFileKind : uint8_t { kTmpfs = 1, kHugetlbfs = 2, kOther = 3 };

absl::StatusOr<RamFileKind> KindOfRamFile(int file);

// Whether the region's file is a real one of the right kind and long enough. The sentence names the
// region and the mend.
absl::Status CheckRamFile(const RamRegion& region, RamFileKind kind);

// Whether any page of the region's part of its file holds data. On hugetlbfs, which cannot tell
// where, the whole file counts.
absl::StatusOr<bool> HoldsData(const RamRegion& region, RamFileKind kind);

// Which pages of the region hold data. A page that is left out reads zero; one that is named may be
// zero all the same. Allocates nothing in the file.
//
// tmpfs: SEEK_DATA and SEEK_HOLE, 27 ns a page and 0.6 us a stretch; where there are many
// stretches, mincore (50 ns a page), which does not see what is swapped out, so that it counts only
// if it has found all the blocks that the file owns.
// hugetlbfs: it knows neither. UFFDIO_CONTINUE into a mapping of our own tells a page from a hole
// (about 1 us a page); where that is not permitted, reading by pread finds what is not zero.
absl::StatusOr<PageRangeSet> ReadDataPages(const RamRegion& region, RamFileKind kind);

}  // namespace faultline

#endif  // FAULTLINE_MEMORY_RAM_FILE_H_
