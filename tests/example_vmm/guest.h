// A guest without a hypervisor: a few regions of memory, and threads that touch them.
//
// Every page holds what its place and its version say, in all of its words. The versions are the
// guest's device state: they travel apart from the memory, so a page that is lost, stale or swapped
// is seen. A page of version 0 was never touched and reads zero.
#ifndef FAULTLINE_TESTS_EXAMPLE_VMM_GUEST_H_
#define FAULTLINE_TESTS_EXAMPLE_VMM_GUEST_H_

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GUEST_REGIONS 3
#define GUEST_THREADS 4
#define GUEST_PAGE_BYTES 4096u

struct GuestRegion {
  const char* name;
  uint64_t pages;
  int fd;  // the memfd behind it
  uint8_t* memory;
  uint32_t* versions;  // one a page; each page belongs to one thread
};

struct Guest;

struct GuestThread {
  struct Guest* guest;
  unsigned index;
  uint64_t random;  // its generator's state
  pthread_t thread;
};

struct Guest {
  struct GuestRegion regions[GUEST_REGIONS];
  struct GuestThread threads[GUEST_THREADS];
  bool running;  // its threads exist; whoever controls the guest uses it
  _Atomic bool stop;
  _Atomic uint64_t touched;  // pages checked and written by the threads
  _Atomic uint64_t wrong;    // pages that were not what they should be
};

// Maps empty memory. False, after a sentence on stderr, if that fails.
bool GuestCreate(struct Guest* guest);
void GuestDestroy(struct Guest* guest);

// Starts and stops the threads; to be called when it makes a difference only.
bool GuestRun(struct Guest* guest);
void GuestStop(struct Guest* guest);

// The device state: what GuestLoad takes on the other side. While stopped.
size_t GuestStateBytes(const struct Guest* guest);
void GuestSave(const struct Guest* guest, void* bytes);
bool GuestLoad(struct Guest* guest, const void* bytes, size_t size_bytes);

// Looks at every page while stopped; counts the wrong ones into guest->wrong. Returns how many were
// looked at.
uint64_t GuestCheckAll(struct Guest* guest);

#endif  // FAULTLINE_TESTS_EXAMPLE_VMM_GUEST_H_
