#include "guest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { kWordsPerPage = GUEST_PAGE_BYTES / sizeof(uint64_t) };

static const struct {
  const char* name;
  uint64_t pages;
  uint64_t touched_pages;  // pages beyond are never touched: they stay absent
} kShapes[GUEST_REGIONS] = {
    {"ram", 16384, 12288},
    {"ram-high", 4096, 4096},
    {"video", 512, 3},
};

static uint64_t PageWord(unsigned region, uint64_t page, uint32_t version, unsigned word) {
  if (version == 0) return 0;
  const uint64_t seed = ((uint64_t)region << 56) ^ (page << 20) ^ version;
  return (seed + word) * UINT64_C(0x9e3779b97f4a7c15);
}

static bool PageIsRight(const struct Guest* guest, unsigned region, uint64_t page) {
  const struct GuestRegion* r = &guest->regions[region];
  const uint64_t* words = (const uint64_t*)(const void*)(r->memory + page * GUEST_PAGE_BYTES);
  for (unsigned word = 0; word < kWordsPerPage; ++word) {
    if (words[word] != PageWord(region, page, r->versions[page], word)) return false;
  }
  return true;
}

static void CheckPage(struct Guest* guest, unsigned region, uint64_t page) {
  if (PageIsRight(guest, region, page)) return;
  if (atomic_fetch_add(&guest->wrong, 1) < 10) {
    fprintf(stderr, "wrong page: region %s, page %llu, version %u\n", guest->regions[region].name,
            (unsigned long long)page, guest->regions[region].versions[page]);
  }
}

static uint64_t NextRandom(uint64_t* state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state;
}

// Checks one of the thread's own pages, then writes its next version.
static void TouchOne(struct GuestThread* self) {
  struct Guest* guest = self->guest;
  const uint64_t random = NextRandom(&self->random);
  const unsigned region = (unsigned)(random >> 32) % GUEST_REGIONS;
  const uint64_t page = (random & 0xffffffff) % kShapes[region].touched_pages;
  if (page % GUEST_THREADS != self->index) return;
  CheckPage(guest, region, page);
  struct GuestRegion* r = &guest->regions[region];
  const uint32_t version = ++r->versions[page];
  uint64_t* words = (uint64_t*)(void*)(r->memory + page * GUEST_PAGE_BYTES);
  for (unsigned word = 0; word < kWordsPerPage; ++word) {
    words[word] = PageWord(region, page, version, word);
  }
  atomic_fetch_add(&guest->touched, 1);
}

static void* ThreadMain(void* argument) {
  struct GuestThread* self = argument;
  while (!atomic_load(&self->guest->stop)) {
    for (int i = 0; i < 64; ++i) TouchOne(self);
    usleep(100);  // a guest that idles now and then: the tests share small machines
  }
  return NULL;
}

bool GuestCreate(struct Guest* guest) {
  memset(guest, 0, sizeof *guest);
  for (unsigned i = 0; i < GUEST_REGIONS; ++i) guest->regions[i].fd = -1;
  for (unsigned i = 0; i < GUEST_REGIONS; ++i) {
    struct GuestRegion* r = &guest->regions[i];
    const size_t bytes = kShapes[i].pages * GUEST_PAGE_BYTES;
    r->name = kShapes[i].name;
    r->pages = kShapes[i].pages;
    r->versions = calloc(r->pages, sizeof *r->versions);
    r->fd = memfd_create(r->name, MFD_CLOEXEC);
    if (r->versions == NULL || r->fd < 0 || ftruncate(r->fd, (off_t)bytes) != 0) {
      perror("make guest memory");
      GuestDestroy(guest);
      return false;
    }
    void* memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0);
    if (memory == MAP_FAILED) {
      perror("map guest memory");
      GuestDestroy(guest);
      return false;
    }
    r->memory = memory;
  }
  for (unsigned i = 0; i < GUEST_THREADS; ++i) {
    guest->threads[i].guest = guest;
    guest->threads[i].index = i;
    guest->threads[i].random = UINT64_C(0x2545f4914f6cdd1d) * (i + 1);
  }
  return true;
}

void GuestDestroy(struct Guest* guest) {
  for (unsigned i = 0; i < GUEST_REGIONS; ++i) {
    struct GuestRegion* r = &guest->regions[i];
    if (r->memory != NULL) munmap(r->memory, r->pages * GUEST_PAGE_BYTES);
    if (r->fd >= 0) close(r->fd);
    free(r->versions);
  }
}

bool GuestRun(struct Guest* guest) {
  atomic_store(&guest->stop, false);
  for (unsigned i = 0; i < GUEST_THREADS; ++i) {
    const int error =
        pthread_create(&guest->threads[i].thread, NULL, ThreadMain, &guest->threads[i]);
    if (error == 0) continue;
    fprintf(stderr, "start a guest thread: %s\n", strerror(error));
    atomic_store(&guest->stop, true);
    while (i-- > 0) pthread_join(guest->threads[i].thread, NULL);
    return false;
  }
  guest->running = true;
  return true;
}

void GuestStop(struct Guest* guest) {
  atomic_store(&guest->stop, true);
  for (unsigned i = 0; i < GUEST_THREADS; ++i) pthread_join(guest->threads[i].thread, NULL);
  guest->running = false;
}

size_t GuestStateBytes(const struct Guest* guest) {
  size_t bytes = GUEST_THREADS * sizeof(uint64_t);
  for (unsigned i = 0; i < GUEST_REGIONS; ++i) bytes += guest->regions[i].pages * sizeof(uint32_t);
  return bytes;
}

void GuestSave(const struct Guest* guest, void* bytes) {
  uint8_t* out = bytes;
  for (unsigned i = 0; i < GUEST_THREADS; ++i) {
    memcpy(out, &guest->threads[i].random, sizeof(uint64_t));
    out += sizeof(uint64_t);
  }
  for (unsigned i = 0; i < GUEST_REGIONS; ++i) {
    const size_t size = guest->regions[i].pages * sizeof(uint32_t);
    memcpy(out, guest->regions[i].versions, size);
    out += size;
  }
}

bool GuestLoad(struct Guest* guest, const void* bytes, size_t size_bytes) {
  if (size_bytes != GuestStateBytes(guest)) return false;
  const uint8_t* in = bytes;
  for (unsigned i = 0; i < GUEST_THREADS; ++i) {
    memcpy(&guest->threads[i].random, in, sizeof(uint64_t));
    in += sizeof(uint64_t);
  }
  for (unsigned i = 0; i < GUEST_REGIONS; ++i) {
    const size_t size = guest->regions[i].pages * sizeof(uint32_t);
    memcpy(guest->regions[i].versions, in, size);
    in += size;
  }
  return true;
}

uint64_t GuestCheckAll(struct Guest* guest) {
  uint64_t pages = 0;
  for (unsigned region = 0; region < GUEST_REGIONS; ++region) {
    for (uint64_t page = 0; page < guest->regions[region].pages; ++page, ++pages) {
      CheckPage(guest, region, page);
    }
  }
  return pages;
}
