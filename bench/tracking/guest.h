// The guest of the tracking benchmark: a RAM file that this process has mapped, and a thread that
// writes in it.
#ifndef FAULTLINE_BENCH_TRACKING_GUEST_H_
#define FAULTLINE_BENCH_TRACKING_GUEST_H_

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "base/file_descriptor.h"
#include "seams/vm_description.h"

namespace faultline::tracking {

inline constexpr uint64_t kPageBytes = 4096;

// `mib` MiB on tmpfs, every page written once.
class Memory {
 public:
  explicit Memory(uint64_t mib);
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  uint64_t pages() const { return pages_; }
  volatile uint64_t* page(uint64_t index) const {
    return reinterpret_cast<volatile uint64_t*>(base_ + index * kPageBytes);
  }
  uint64_t address() const { return reinterpret_cast<uint64_t>(base_); }
  VmDescription Describe() const;

 private:
  const uint64_t pages_;
  FileDescriptor file_;
  char* base_ = nullptr;
};

// How a guest spends its time.
struct Pattern {
  const char* name;
  bool zipf;                // most writes go to few pages; else all pages are alike
  uint32_t work_per_write;  // steps of arithmetic between two writes, about 1 ns each
};

// Writes to random pages, from its making to its end.
class Writer {
 public:
  // `memory` outlives it.
  Writer(const Memory* memory, Pattern pattern);
  ~Writer();
  // Writes so far.
  uint64_t writes() const { return writes_.load(std::memory_order_relaxed); }

 private:
  void Run(const Memory* memory, Pattern pattern);

  std::vector<uint32_t> order_;  // the pages that it goes through
  std::atomic<uint64_t> writes_{0};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace faultline::tracking

#endif  // FAULTLINE_BENCH_TRACKING_GUEST_H_
