// The kernel's soft-dirty bits (Documentation/admin-guide/mm/soft-dirty.rst).
#ifndef FAULTLINE_BASE_SOFT_DIRTY_H_
#define FAULTLINE_BASE_SOFT_DIRTY_H_

#include <cstdint>

namespace faultline {

// In a page's 64 bits in /proc/PID/pagemap: it was written since the bits were cleared.
inline constexpr uint64_t kPagemapSoftDirty = uint64_t{1} << 55;

// Whether this kernel is built with them. Changes nothing; any thread.
bool KernelHasSoftDirty();

}  // namespace faultline

#endif  // FAULTLINE_BASE_SOFT_DIRTY_H_
