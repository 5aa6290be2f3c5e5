// The RAM of the hypervisor that is registered with a userfaultfd for asynchronous write
// protection, so that the engine can see which pages are written.
#ifndef FAULTLINE_HOOK_TRACKED_MEMORY_H_
#define FAULTLINE_HOOK_TRACKED_MEMORY_H_

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "hook/hook_protocol.h"
#include "hook/request_parser.h"
#include "hook/userfaultfd.h"

// Zero-initialised except the descriptor: HookTrackedMemoryInit. Only the hook's thread uses it,
// but for the descriptor, which a forked child closes (HookTrackedMemoryForget).
struct HookTrackedMemory {
  _Atomic int uffd;  // -1: nothing is tracked
  struct HookMemory found;
};

void HookTrackedMemoryInit(struct HookTrackedMemory* memory);
bool HookIsTracking(const struct HookTrackedMemory* memory);

// Finds the regions of a TRACK, makes a userfaultfd as HookMakeUserfaultfd does and registers them
// for write protection; protects nothing yet. If it fails all is as before.
enum HookStatus HookTrackMemory(struct HookTrackedMemory* memory, const struct HookRequest* request,
                                int maps_fd, int device_fd, struct HookRefusal* refusal);

// Takes all protection away and closes the descriptor; nothing if nothing is tracked.
void HookStopTracking(struct HookTrackedMemory* memory);

// In a forked child: closes the descriptor and touches nothing else.
void HookTrackedMemoryForget(struct HookTrackedMemory* memory);

#endif  // FAULTLINE_HOOK_TRACKED_MEMORY_H_
