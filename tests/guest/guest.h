// The checking guest: one static program that runs as /init of the test VM.
//
// It fills memory with a pattern, then reads and writes it at random and checks every read, so that
// a page that arrives late, twice, torn or from an older time is seen by the guest itself. It
// reports over the serial port in lines that start with "FL " and hold key=value pairs.

#ifndef FAULTLINE_TESTS_GUEST_GUEST_H_
#define FAULTLINE_TESTS_GUEST_GUEST_H_

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { kPageBytes = 4096, kPageWords = kPageBytes / 8, kThreadsMax = 16 };

// What the kernel command line asked for; constant once the workers run.
struct Options {
  uint64_t mib;             // fl.mib: patterned memory that the workers use
  uint64_t idle_mib;        // fl.idle: patterned memory that only `verify` reads
  uint64_t threads;         // fl.threads: memory workers
  uint64_t writes_percent;  // fl.writes
  uint64_t seed;            // fl.seed
  uint64_t report_ms;       // fl.report_ms: length of a report window
  uint64_t discard_mib;     // fl.discard: memory that the `discard` command frees
  bool churn;               // fl.churn: frees and refills that memory in a loop
  bool disk;                // fl.disk: works on /dev/vda
  bool balloon;             // fl.balloon: loads the balloon driver
  char pattern[16];         // fl.pattern: uniform, zipf, hotset, scan, writeheavy
  char address[32];         // fl.net=ADDRESS (a /24): brings eth0 up and serves TCP port 7
};

// Counters that the reporter reads while workers add to them. Relaxed order throughout: each is a
// statistic that is looked at alone.
struct Counters {
  atomic_uint_fast64_t ops;
  atomic_uint_fast64_t reads;
  atomic_uint_fast64_t wrong;
  atomic_uint_fast64_t worst_us;  // longest single operation since the last report
  atomic_uint_fast64_t disk_ops;
  atomic_uint_fast64_t disk_wrong;
  atomic_uint_fast64_t net_bytes;
  atomic_uint_fast64_t churn_rounds;
};

extern struct Options options;
extern struct Counters counters;

uint64_t NowUs(void);  // CLOCK_MONOTONIC: stands still while the VM is stopped
uint64_t NextRandom(uint64_t* state);
// Writes one "FL ..." line to the serial port as a whole. Any thread.
void Say(const char* format, ...) __attribute__((format(printf, 1, 2)));
// Says what failed (with errno) and powers the VM off.
void Fatal(const char* what) __attribute__((noreturn));

// memory.c
void MemoryStart(void);
void MemoryPause(void);  // returns when every worker stands still
void MemoryResume(void);
void MemoryVerify(void);  // reads every word of every page; call it paused
void MemoryDiscard(void);
void MemoryRefill(void);

// devices.c
void DevicesLoad(void);
void DiskStart(void);
void NetworkStart(void);

#endif  // FAULTLINE_TESTS_GUEST_GUEST_H_
