// The checking guest: one static program that runs as /init of the test VM.
//
// It fills memory with a pattern, then reads and writes it at random and checks every read, so that
// a page that arrives late, twice, torn or from an older time is seen by the guest itself. It
// reports over the serial port in lines that start with "FL " and hold key=value pairs.

#ifndef FAULTLINE_TESTS_GUEST_GUEST_H_
#define FAULTLINE_TESTS_GUEST_GUEST_H_

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
  kPageBytes = 4096,
  kPageWords = kPageBytes / 8,
  kThreadsMax = 16,
  kStallFirstUs = 8,    // shorter operations are in no stall bucket
  kStallBuckets = 144,  // eight to a doubling, from 8 us to 2 s; longer ones are in the last
};

// What the kernel command line asked for; constant once the workers run.
struct Options {
  uint64_t mib;              // fl.mib: patterned memory that the workers use
  uint64_t idle_mib;         // fl.idle: patterned memory that only `verify` reads
  uint64_t threads;          // fl.threads: memory workers
  uint64_t writes_permille;  // fl.writes_permille
  uint64_t seed;             // fl.seed
  uint64_t report_ms;        // fl.report_ms: length of a report window
  uint64_t tick_ms;          // fl.tick_ms: also a short line this often; 0: none
  uint64_t hot_mib;          // fl.hot: size of the hot set
  uint64_t discard_mib;      // fl.discard: memory that the `discard` command frees
  bool churn;                // fl.churn: frees and refills that memory in a loop
  bool disk;                 // fl.disk: works on /dev/vda
  bool balloon;              // fl.balloon: loads the balloon driver
  bool compressible;         // fl.fill=compressible: lz4 shrinks a page to about a third
  char pattern[16];          // fl.pattern: uniform, zipf, hotset, scan, writeheavy, sqlite
  char address[32];          // fl.net=ADDRESS (a /24): brings eth0 up and serves TCP port 7
};

// Counters that the reporter reads while workers add to them. Relaxed order throughout: each is a
// statistic that is looked at alone.
struct Counters {
  atomic_uint_fast64_t ops;
  atomic_uint_fast64_t reads;
  atomic_uint_fast64_t wrong;
  atomic_uint_fast64_t worst_us;               // longest single operation since the last report
  atomic_uint_fast64_t stalls[kStallBuckets];  // operations by length, since the last report
  atomic_uint_fast64_t disk_ops;
  atomic_uint_fast64_t disk_wrong;
  atomic_uint_fast64_t net_bytes;
  atomic_uint_fast64_t churn_rounds;
};

extern struct Options options;
extern struct Counters counters;

uint64_t NowUs(void);  // CLOCK_MONOTONIC: stands still while the VM is stopped
uint64_t NextRandom(uint64_t* state);
uint64_t Mix(uint64_t x);  // spreads a number over 64 bits, always the same way
// Writes one "FL ..." line to the serial port as a whole. Any thread.
void Say(const char* format, ...) __attribute__((format(printf, 1, 2)));
// Says what failed (with errno) and powers the VM off.
void Fatal(const char* what) __attribute__((noreturn));

// One thread of work. What an operation needs to know about its thread.
struct Worker {
  pthread_t thread;
  uint64_t number;
  uint64_t random;
  uint64_t scan_next;
  atomic_bool paused;
};

// workers.c
// Starts fl.threads workers that call `operate` for ever. It does one operation and returns whether
// that was a checked read.
void WorkersStart(bool (*operate)(struct Worker* worker));
void WorkersPause(void);  // returns when every worker stands still
void WorkersResume(void);
void CountWrong(void);
// Whether one more line about a wrong byte may be said; the first few are enough.
bool MaySayWrong(void);

// choose.c
void ChooseStart(uint64_t pages);  // the number of pages among which each worker chooses
uint64_t ChoosePage(struct Worker* worker, uint64_t random);

// memory.c
void MemoryStart(void);
void MemoryVerify(void);  // reads every word of every page; call it paused
void MemoryDiscard(void);
void MemoryRefill(void);

// sqlite.c: fl.pattern=sqlite
void SqliteStart(void);
void SqliteVerify(void);  // reads every row; call it paused

// devices.c
void DevicesLoad(void);
void DiskStart(void);
void NetworkStart(void);

#endif  // FAULTLINE_TESTS_GUEST_GUEST_H_
