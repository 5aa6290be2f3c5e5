#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

enum { kSampledWords = 8 };

// A page and its version are only ever touched by one worker: the one whose number is the page's
// number modulo the thread count.
static uint64_t* memory;
static uint64_t page_count;    // all patterned pages
static uint64_t active_count;  // the first ones: those that the workers touch
// The version each page must hold, kept apart from the pages: a stale page contradicts it.
static uint32_t* versions;
static uint64_t word_steps[kPageWords];  // what each word adds to its page's base

static uint64_t* discard_area;
static uint64_t discard_bytes;
static pthread_mutex_t discard_lock = PTHREAD_MUTEX_INITIALIZER;

static uint64_t PatternBase(uint64_t page, uint32_t version) {
  return Mix(page * 0x9E3779B97F4A7C15ull + version + 1);
}

static uint64_t PatternWord(uint64_t base, uint64_t word) { return base + word_steps[word]; }

// No two words of a page are alike, so that nothing can compress it; or each eight words come three
// times, which leaves lz4 about a third of the page. Every word tells page and version either way.
static void MakeWordSteps(void) {
  for (uint64_t word = 0; word < kPageWords; ++word) {
    uint64_t step = options.compressible ? word / 24 * 8 + word % 8 : word;
    word_steps[word] = step * 0x9E3779B97F4A7C15ull;
  }
}

static void FillPage(uint64_t* page_start, uint64_t page, uint32_t version) {
  uint64_t base = PatternBase(page, version);
  for (uint64_t word = 0; word < kPageWords; ++word) page_start[word] = PatternWord(base, word);
}

static void ReportWrong(uint64_t page, uint64_t word, uint64_t want, uint64_t got) {
  CountWrong();
  if (MaySayWrong()) {
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

static bool Operate(struct Worker* worker) {
  uint64_t random = NextRandom(&worker->random);
  uint64_t page = ChoosePage(worker, random) * options.threads + worker->number;
  if (NextRandom(&worker->random) % 1000 < options.writes_permille) {
    versions[page] += 1;
    FillPage(memory + page * kPageWords, page, versions[page]);
    return false;
  }
  CheckSampled(page, random);
  return true;
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
  MakeWordSteps();
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
  ChooseStart(active_count / options.threads);
  WorkersStart(Operate);
  pthread_t churner;
  if (options.churn && pthread_create(&churner, NULL, Churn, NULL) != 0) Fatal("churner");
}

void MemoryVerify(void) {
  uint64_t wrong_pages = 0;
  for (uint64_t page = 0; page < page_count; ++page) {
    const uint64_t* start = memory + page * kPageWords;
    uint64_t base = PatternBase(page, versions[page]);
    for (uint64_t word = 0; word < kPageWords; ++word) {
      if (start[word] != PatternWord(base, word)) {
        ReportWrong(page, word, PatternWord(base, word), start[word]);
        ++wrong_pages;
        break;
      }
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
