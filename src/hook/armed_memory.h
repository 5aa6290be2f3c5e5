// The armed state: the userfaultfd, what is registered with it, and the page-state memfd.
#ifndef FAULTLINE_HOOK_ARMED_MEMORY_H_
#define FAULTLINE_HOOK_ARMED_MEMORY_H_

#include <stdatomic.h>
#include <stdbool.h>

#include "hook/hook_protocol.h"
#include "hook/request_parser.h"
#include "hook/userfaultfd.h"

// Zero-initialised except the descriptors: HookArmedMemoryInit. Only the hook's thread uses it, but
// for the descriptors, which a forked child closes (HookArmedMemoryForget).
struct HookArmedMemory {
  _Atomic int uffd;        // -1: not armed
  _Atomic int page_state;  // the page-state memfd, only kept for the engine that comes next
  struct HookMemory found;
};

void HookArmedMemoryInit(struct HookArmedMemory* memory);
bool HookIsArmed(const struct HookArmedMemory* memory);

// Finds the regions of an ARM, makes a userfaultfd (by `device_fd`, a /dev/userfaultfd, where the
// process may not; -1: none) and registers them MISSING. Takes `page_state_fd` over if it succeeds.
// Otherwise all is as before.
enum HookStatus HookArmMemory(struct HookArmedMemory* memory, const struct HookRequest* request,
                              int maps_fd, int page_state_fd, int device_fd,
                              struct HookRefusal* refusal);

// Unregisters everything, gives huge page advice back and closes both descriptors. Disarmed also
// when a range could not be unregistered (it was unmapped meanwhile); closing covers the rest.
void HookReleaseMemory(struct HookArmedMemory* memory);

// In a forked child: closes the descriptors and touches nothing else.
void HookArmedMemoryForget(struct HookArmedMemory* memory);

// Closes what `fd` holds; -1 goes in first, so that a fork never sees a number that is already
// someone else's.
void HookCloseSlot(_Atomic int* fd);

#endif  // FAULTLINE_HOOK_ARMED_MEMORY_H_
