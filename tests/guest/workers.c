#include <unistd.h>

#include "guest.h"

enum { kWrongLinesMax = 8, kStallsToDoubling = 8 };

static struct Worker workers[kThreadsMax];
static atomic_bool pause_asked;
static atomic_int wrong_lines;
static bool (*work)(struct Worker*);

void CountWrong(void) { atomic_fetch_add_explicit(&counters.wrong, 1, memory_order_relaxed); }

bool MaySayWrong(void) { return atomic_fetch_add(&wrong_lines, 1) < kWrongLinesMax; }

// Bucket b begins at (8 + b % 8) << (b / 8) microseconds: eight equal steps to each doubling.
static void NoteStall(uint64_t took_us) {
  uint64_t doublings = 60 - (uint64_t)__builtin_clzll(took_us);
  uint64_t bucket = doublings * kStallsToDoubling + (took_us >> doublings) - kStallsToDoubling;
  if (bucket >= kStallBuckets) bucket = kStallBuckets - 1;
  atomic_fetch_add_explicit(&counters.stalls[bucket], 1, memory_order_relaxed);
  uint64_t worst = atomic_load_explicit(&counters.worst_us, memory_order_relaxed);
  while (took_us > worst && !atomic_compare_exchange_weak(&counters.worst_us, &worst, took_us)) {
  }
}

static void* Work(void* argument) {
  struct Worker* worker = argument;
  uint64_t before_us = NowUs();
  for (;;) {
    if (atomic_load_explicit(&pause_asked, memory_order_acquire)) {
      atomic_store(&worker->paused, true);
      while (atomic_load(&pause_asked)) usleep(1000);
      atomic_store(&worker->paused, false);
      before_us = NowUs();
    }
    if (work(worker)) atomic_fetch_add_explicit(&counters.reads, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&counters.ops, 1, memory_order_relaxed);
    uint64_t now_us = NowUs();
    if (now_us - before_us >= kStallFirstUs) NoteStall(now_us - before_us);
    before_us = now_us;
  }
  return NULL;
}

void WorkersStart(bool (*operate)(struct Worker* worker)) {
  work = operate;
  for (uint64_t i = 0; i < options.threads; ++i) {
    workers[i].number = i;
    workers[i].random = Mix(options.seed * 1000 + i) | 1;
    if (pthread_create(&workers[i].thread, NULL, Work, &workers[i]) != 0) Fatal("worker");
  }
}

void WorkersPause(void) {
  atomic_store(&pause_asked, true);
  for (uint64_t i = 0; i < options.threads; ++i) {
    while (!atomic_load(&workers[i].paused)) usleep(1000);
  }
}

void WorkersResume(void) { atomic_store(&pause_asked, false); }
