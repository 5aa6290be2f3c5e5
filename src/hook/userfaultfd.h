// Making a userfaultfd in the hypervisor's process.
#ifndef FAULTLINE_HOOK_USERFAULTFD_H_
#define FAULTLINE_HOOK_USERFAULTFD_H_

#include <stdint.h>

#include "hook/hook_protocol.h"

// Why something was refused, as the reply's header carries it.
struct HookRefusal {
  uint64_t detail;
  int error_number;
};

// A userfaultfd with the `wanted` features, set up, in `*uffd`; all that the kernel offers in
// `*offered`. Made by `device_fd`, a /dev/userfaultfd, where the process may not (-1: none).
enum HookStatus HookMakeUserfaultfd(int device_fd, uint64_t wanted, int* uffd, uint64_t* offered,
                                    struct HookRefusal* refusal);

#endif  // FAULTLINE_HOOK_USERFAULTFD_H_
