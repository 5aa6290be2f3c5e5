// Making pages that can never come a clean error for whoever touches them (UFFDIO_POISON, Linux
// 6.6), so that none of them reads as zeros once the userfaultfd is gone.
#ifndef FAULTLINE_MEMORY_PAGE_POISON_H_
#define FAULTLINE_MEMORY_PAGE_POISON_H_

#include <cstdint>
#include <span>

#include "base/status.h"
#include "memory/uffd_memory.h"
#include "seams/vm_description.h"

namespace faultline {

// Refuses where the kernel could later build a huge page over a poisoned one, which would be zeros
// again: a tmpfs with huge=advise, or transparent huge pages forced for all of them. hugetlbfs is
// never collapsed. FailedPrecondition with the mend.
absl::Status CheckPoisonLasts(std::span<const RamRegion> regions);

// Poisons every page that the table calls missing and nobody has installed, and wakes who waits for
// one: a SIGBUS is what they get. What the guest gives up meanwhile is marked as discarded. Nobody
// else installs anything. Safe to run twice. Returns how many pages were poisoned. Unimplemented:
// the kernel that armed the memory knows no poison. After an error some pages may be poisoned, and
// none is lost: the memory is armed still.
absl::StatusOr<uint64_t> PoisonMissing(UffdMemory* memory);

}  // namespace faultline

#endif  // FAULTLINE_MEMORY_PAGE_POISON_H_
