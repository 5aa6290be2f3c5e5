// What one run measures. Both sides are started with the same plan.
#ifndef FAULTLINE_BENCH_MICRO_PLAN_H_
#define FAULTLINE_BENCH_MICRO_PLAN_H_

#include <cstdint>
#include <string>

namespace faultline::bench::micro {

// Who moves the memory.
enum class Mover : uint8_t {
  kFloor,   // a hand-written loop with the fewest system calls that could do it
  kEngine,  // whole sessions of the engine
};

enum class Measure : uint8_t {
  kFaults,  // every page is touched; nothing is pushed
  kBulk,    // everything is pushed; nothing is touched
  kPush,    // everything is pushed while pages are touched
};

// How a floor's source gets at what it pushes.
enum class SendsFrom : uint8_t {
  kMapping,  // its own, whose pages were all touched before
  kFile,     // by sendfile
  kCopy,     // read from the file: what a process pays that has not filled the memory itself
};

struct Plan {
  Mover mover = Mover::kFloor;
  Measure measure = Measure::kFaults;
  std::string address;  // HOST:PORT, to listen on or to connect to
  uint64_t pages = 16384;
  int touchers = 1;           // threads that touch, each its share of the pages
  int64_t think_us = 0;       // what a toucher computes between two touches
  bool sequential = false;    // touch in order instead of at random
  uint64_t chunk_kib = 1024;  // floors, bulk: what is received and installed at once
  int lanes = 1;              // floors: parts of the region, each with threads, connections and a
                              // userfaultfd of its own
  SendsFrom sends_from = SendsFrom::kMapping;  // floors, bulk
  // Floors of faults: not 0: poll without end instead of blocking. Engine: its option.
  int64_t poll_us = 0;
  bool page_alone = false;  // engine: a fault brings no neighbors
  bool integrity = false;   // engine: pages are checked end to end
};

}  // namespace faultline::bench::micro

#endif  // FAULTLINE_BENCH_MICRO_PLAN_H_
