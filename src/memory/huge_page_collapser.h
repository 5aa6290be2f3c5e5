// Small pages of a VM's tmpfs RAM become huge ones by MADV_COLLAPSE from outside of its process.
#ifndef FAULTLINE_MEMORY_HUGE_PAGE_COLLAPSER_H_
#define FAULTLINE_MEMORY_HUGE_PAGE_COLLAPSER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "pages/page_table.h"
#include "seams/huge_page_maker.h"

namespace faultline {

// A step looks at one stretch of 2 MiB. It is collapsed if all of its pages have landed
// (kInstalled) and are in memory still: the kernel would fill holes up. Not looked at are regions
// of other pages than 4 KiB, without a file, or mapped at an address that is not as far from a
// multiple of 2 MiB as its offset in the file.
class HugePageCollapser : public HugePageMaker {
 public:
  struct Region {
    std::string name;
    uint64_t page_size_bytes = 0;
    uint64_t page_count = 0;
    uint64_t host_address = 0;  // in the VM's process
    int file = -1;
    uint64_t file_offset_bytes = 0;
  };

  // `process` is a pidfd of the VM's process, -1 if it is not known. It, the regions' files and
  // `table` (whose regions these are, in its order) outlive this.
  HugePageCollapser(int process, std::vector<Region> regions, const PageTable* table);

  HugePageStep Step() override;

 private:
  // Refusals that only tell of the host's state (no free huge page, a cgroup's limit) end it when
  // so many came in a row: each may cost the kernel a search through all memory.
  static constexpr int kRefusalsMax = 8;

  // Says why nothing at all can be done; ok: something can.
  std::string FindHindrance() const;
  // Leaves out the regions where nothing can be done; a sentence for each that the operator can
  // mend.
  std::vector<std::string> LeaveRegionsOut();
  // The stretch at `offset_bytes` of `region` is whole: table and file.
  bool IsWhole(RegionIndex region, uint64_t offset_bytes) const;
  void Collapse(RegionIndex region, uint64_t offset_bytes, HugePageStep* step);
  // Ends it; says so if not one of the stretches that were tried became huge.
  void End(HugePageStep* step) const;

  const int process_;
  const std::vector<Region> regions_;
  const PageTable* const table_;
  std::vector<bool> left_out_;  // by region
  bool begun_ = false;
  RegionIndex region_ = 0;     // where the next step looks
  uint64_t offset_bytes_ = 0;  // in it; 0: at the region's first stretch
  uint64_t tried_ = 0;
  uint64_t made_ = 0;
  int refusals_in_a_row_ = 0;
  int last_error_ = 0;
};

}  // namespace faultline

#endif  // FAULTLINE_MEMORY_HUGE_PAGE_COLLAPSER_H_
