// Finds the mappings of RAM file ranges in /proc/self/maps.
#ifndef FAULTLINE_HOOK_MEMORY_MAP_H_
#define FAULTLINE_HOOK_MEMORY_MAP_H_

#include <stddef.h>

#include "hook/hook_protocol.h"

#ifdef __cplusplus
extern "C" {
#endif

// Reads the text of /proc/self/maps from `maps_fd` (from its start) and sets `host_addresses[i]` to
// where the whole of `regions[i]` is mapped. A mapping may be split into adjacent entries; it must
// be shared, whole, at one continuous address range, and the only one. Returns kHookStatusOk, or
// the reason with the region's index in `detail`, or kHookStatusSystem with `error_number`.
enum HookStatus HookFindRegions(int maps_fd, const struct HookRegion* regions,
                                uint32_t region_count, uint64_t* host_addresses, uint64_t* detail,
                                int* error_number);

#ifdef __cplusplus
}  // extern "C"
#endif

#endif  // FAULTLINE_HOOK_MEMORY_MAP_H_
