// Memory of the hypervisor's process, found and registered with a userfaultfd.
#ifndef FAULTLINE_HOOK_USERFAULTFD_H_
#define FAULTLINE_HOOK_USERFAULTFD_H_

#include <stdint.h>

#include "hook/hook_protocol.h"
#include "hook/request_parser.h"

// Why something was refused, as the reply's header carries it.
struct HookRefusal {
  uint64_t detail;
  int error_number;
};

struct HookMemory {
  uint64_t features;  // that the kernel offers
  uint32_t region_count;
  struct HookArmedRegion regions[HOOK_REGIONS_MAX];
};

// Looks up where the request's regions are mapped. `refusal` says which one is not, and why.
enum HookStatus HookFindMemory(struct HookMemory* memory, const struct HookRequest* request,
                               int maps_fd, struct HookRefusal* refusal);
// The same, and a userfaultfd in `*uffd` with the features that the request wants. Made by
// `device_fd`, a /dev/userfaultfd, where the process may not (-1: none).
enum HookStatus HookOpenMemory(struct HookMemory* memory, const struct HookRequest* request,
                               int maps_fd, int device_fd, int* uffd, struct HookRefusal* refusal);
// Registers one region in `mode`, or says in `refusal` why the kernel does not.
enum HookStatus HookRegisterRegion(struct HookArmedRegion* region, int uffd, uint64_t mode,
                                   struct HookRefusal* refusal);
void HookUnregisterRegion(const struct HookArmedRegion* region, int uffd);

#endif  // FAULTLINE_HOOK_USERFAULTFD_H_
