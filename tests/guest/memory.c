#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

enum { kSampledWords = 8, kWrongLinesMax = 8 };

// One worker. It owns the pages whose number modulo the thread count is its own, so that a page and
// its version are only ever touched by one thread.
struct Worker {
  pthread_t thread;
  uint64_t number;
  uint64_t random;
  uint64_t scan_next;
  atomic_bool paused;
};

static uint64_t* memory;
static uint64_t page_count;    // all patterned pages
static uint64_t active_count;  // the first ones: those that the workers touch
// The version each page must hold, kept apart from the pages: a stale page contradicts it.
static uint32_t* versions;
static struct Worker workers[kThreadsMax];
static atomic_bool pause_asked;
static atomic_int wrong_lines;

static uint64_t* discard_area;
static uint64_t discard_bytes;
static pthread_mutex_t discard_lock = PTHREAD_MUTEX_INITIALIZER;

static uint64_t Mix(uint64_t x) {
  x ^= x >> 31;
  x *= 0x7fb5d329728ea185ull;
  x ^= x >> 27;
  x *= 0x81dadef4bc2dd44dull;
  return x ^ (x >> 33);
}

static uint64_t PatternBase(uint64_t page, uint32_t version) {
  return Mix(page * 0x9E3779B97F4A7C15ull + version + 1);
}

static uint64_t PatternWord(uint64_t base, uint64_t word) {
  return base + word * 0x9E3779B97F4A7C15ull;
}

static void FillPage(uint64_t* page_start, uint64_t page, uint32_t version) {
  uint64_t value = PatternBase(page, version);
  for (uint64_t word = 0; word < kPageWords; ++word) {
    page_start[word] = value;
    value += 0x9E3779B97F4A7C15ull;
  }
}

static void ReportWrong(uint64_t page, uint64_t word, uint64_t want, uint64_t got) {
  atomic_fetch_add_explicit(&counters.wrong, 1, memory_order_relaxed);
  if (atomic_fetch_add(&wrong_lines, 1) < kWrongLinesMax) {
    Say("wrong page=%lu word=%lu version=%u want=%lx got=%lx", page, word, versions[page], want,
        got);
  }
}

// First word, last word and some between: enough to see a stale, zero or torn page.
static void CheckSampled(uint64_t page, uint64_t random) {
  const uint64_t* start = memory + page * kPageWords;
  uint64_t base = PatternBase(page, versions[page]);
  for (int i = 0; i < kSampledWords; ++i) {
    uint64_t word = i == 0 ? 0 : i == 1 ? kPageWords - 1 : (random >> (i * 7)) % kPageWords;
    uint64_t got = ((const volatile uint64_t*)start)[word];
    if (got != PatternWord(base, word)) {
      ReportWrong(page, word, PatternWord(base, word), got);
      return;
    }
  }
}

// A page number below `pages`; `random` is a full 64-bit random number.
static uint64_t ChoosePage(struct Worker* worker, uint64_t pages, uint64_t random) {
  switch (options.pattern[0]) {
    case 's':  // scan
      return worker->scan_next++ % pages;
    case 'h':  // hotset: nine of ten operations go to a tenth of the memory
      if (random % 10 != 0) return (random >> 8) % (pages / 10 + 1);
      return (random >> 8) % pages;
    case 'z': {  // zipf-like: the fourth power of a uniform number crowds the low pages
      double u = (double)(random >> 11) / 9007199254740992.0;
      uint64_t rank = (uint64_t)(u * u * u * u * (double)pages);
      return rank * 40503 % pages;  // scattered, so that hot pages are not neighbours
    }
    default:  // uniform, writeheavy
      return random % pages;
  }
}

static void NoteWorst(uint64_t took_us) {
  uint64_t worst = atomic_load_explicit(&counters.worst_us, memory_order_relaxed);
  while (took_us > worst && !atomic_compare_exchange_weak(&counters.worst_us, &worst, took_us)) {
  }
}

static void* Work(void* argument) {
  struct Worker* worker = argument;
  uint64_t own_pages = active_count / options.threads;
  uint64_t before_us = NowUs();
  for (;;) {
    if (atomic_load_explicit(&pause_asked, memory_order_acquire)) {
      atomic_store(&worker->paused, true);
      while (atomic_load(&pause_asked)) usleep(1000);
      atomic_store(&worker->paused, false);
      before_us = NowUs();
    }
    uint64_t random = NextRandom(&worker->random);
    uint64_t page = ChoosePage(worker, own_pages, random) * options.threads + worker->number;
    if (NextRandom(&worker->random) % 100 < options.writes_percent) {
      versions[page] += 1;
      FillPage(memory + page * kPageWords, page, versions[page]);
    } else {
      CheckSampled(page, random);
      atomic_fetch_add_explicit(&counters.reads, 1, memory_order_relaxed);
    }
    atomic_fetch_add_explicit(&counters.ops, 1, memory_order_relaxed);
    uint64_t now_us = NowUs();
    if (now_us - before_us > 50) NoteWorst(now_us - before_us);
    before_us = now_us;
  }
  return NULL;
}

static void* Map(uint64_t bytes) {
  void* area = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (area == MAP_FAILED) Fatal("mmap");
  madvise(area, bytes, MADV_HUGEPAGE);  // quicker to fill, and freed in blocks worth reporting
  return area;
}

static void FillDiscardArea(void) {
  for (uint64_t page = 0; page < discard_bytes / kPageBytes; ++page) {
    FillPage(discard_area + page * kPageWords, page, 7);
  }
}

static void* Churn(void* unused) {
  (void)unused;
  for (;;) {
    MemoryDiscard();
    sleep(3);  // free pages are reported to the host after two seconds
    MemoryRefill();
    atomic_fetch_add(&counters.churn_rounds, 1);
    sleep(1);
  }
  return NULL;
}

void MemoryStart(void) {
  active_count = options.mib * 256;
  page_count = active_count + options.idle_mib * 256;
  memory = Map(page_count * kPageBytes);
  versions = Map(page_count * sizeof(versions[0]));
  for (uint64_t page = 0; page < page_count; ++page) {
    versions[page] = 1;
    FillPage(memory + page * kPageWords, page, 1);
  }
  discard_bytes = options.discard_mib << 20;
  if (discard_bytes > 0) {
    discard_area = Map(discard_bytes);
    FillDiscardArea();
  }
  for (uint64_t i = 0; i < options.threads; ++i) {
    workers[i].number = i;
    workers[i].random = Mix(options.seed * 1000 + i) | 1;
    if (pthread_create(&workers[i].thread, NULL, Work, &workers[i]) != 0) Fatal("worker");
  }
  pthread_t churner;
  if (options.churn && pthread_create(&churner, NULL, Churn, NULL) != 0) Fatal("churner");
}

void MemoryPause(void) {
  atomic_store(&pause_asked, true);
  for (uint64_t i = 0; i < options.threads; ++i) {
    while (!atomic_load(&workers[i].paused)) usleep(1000);
  }
}

void MemoryResume(void) { atomic_store(&pause_asked, false); }

void MemoryVerify(void) {
  uint64_t wrong_pages = 0;
  for (uint64_t page = 0; page < page_count; ++page) {
    const uint64_t* start = memory + page * kPageWords;
    uint64_t value = PatternBase(page, versions[page]);
    for (uint64_t word = 0; word < kPageWords; ++word) {
      if (start[word] != value) {
        ReportWrong(page, word, value, start[word]);
        ++wrong_pages;
        break;
      }
      value += 0x9E3779B97F4A7C15ull;
    }
  }
  Say("verify pages=%lu wrong=%lu", page_count, wrong_pages);
}

void MemoryDiscard(void) {
  pthread_mutex_lock(&discard_lock);
  if (discard_area != NULL && munmap(discard_area, discard_bytes) != 0) Fatal("munmap");
  discard_area = NULL;
  Say("discarded mib=%lu", discard_bytes >> 20);
  pthread_mutex_unlock(&discard_lock);
}

void MemoryRefill(void) {
  pthread_mutex_lock(&discard_lock);
  uint64_t not_zero = 0;
  uint64_t wrong = 0;
  if (discard_area == NULL) {
    discard_area = Map(discard_bytes);
    for (uint64_t i = 0; i < discard_bytes / 8; ++i) not_zero += discard_area[i] != 0;
    FillDiscardArea();
    for (uint64_t page = 0; page < discard_bytes / kPageBytes; ++page) {
      uint64_t base = PatternBase(page, 7);
      for (uint64_t word = 0; word < kPageWords; ++word) {
        wrong += discard_area[page * kPageWords + word] != PatternWord(base, word);
      }
    }
  }
  atomic_fetch_add(&counters.wrong, not_zero + wrong);
  Say("refilled mib=%lu not_zero=%lu wrong=%lu", discard_bytes >> 20, not_zero, wrong);
  pthread_mutex_unlock(&discard_lock);
}
