#include "tracking/guest.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <random>

#include "base/check.h"

namespace faultline::tracking {
namespace {

constexpr size_t kOrderLength = 1 << 20;

// Pages by a power law (the hottest tenth gets about 9 of 10 writes), spread over the memory.
std::vector<uint32_t> MakeOrder(uint64_t pages, bool zipf) {
  std::mt19937_64 random(1);
  std::uniform_real_distribution<double> uniform(0, 1);
  std::vector<uint32_t> order(kOrderLength);
  for (uint32_t& page : order) {
    const double share = zipf ? std::pow(uniform(random), 20) : uniform(random);
    const auto rank = static_cast<uint64_t>(share * static_cast<double>(pages));
    page = static_cast<uint32_t>(rank * 2654435761u % pages);
  }
  return order;
}

}  // namespace

Memory::Memory(uint64_t mib)
    : pages_(mib * (1 << 20) / kPageBytes),
      file_(open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)) {
  FAULTLINE_CHECK(file_.valid() && ftruncate(file_.get(), static_cast<off_t>(mib << 20)) == 0);
  void* base = mmap(nullptr, mib << 20, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0);
  FAULTLINE_CHECK(base != MAP_FAILED);
  base_ = static_cast<char*>(base);
  for (uint64_t i = 0; i < pages_; ++i) *page(i) = i;
}

Memory::~Memory() { munmap(base_, pages_ * kPageBytes); }

VmDescription Memory::Describe() const {
  VmDescription vm;
  vm.regions.push_back({.layout = {"ram", pages_ * kPageBytes, kPageBytes},
                        .file = file_.get(),
                        .file_offset_bytes = 0,
                        .host_address = address()});
  return vm;
}

Writer::Writer(const Memory* memory, Pattern pattern)
    : order_(MakeOrder(memory->pages(), pattern.zipf)),
      thread_([this, memory, pattern] { Run(memory, pattern); }) {}

Writer::~Writer() {
  stop_ = true;
  thread_.join();
}

void Writer::Run(const Memory* memory, Pattern pattern) {
  uint64_t value = 1;
  for (size_t i = 0; !stop_.load(std::memory_order_relaxed); i = (i + 1) % kOrderLength) {
    for (uint32_t step = 0; step < pattern.work_per_write; ++step) {
      value = value * 6364136223846793005u + 1442695040888963407u;
    }
    *memory->page(order_[i]) = value;
    writes_.fetch_add(1, std::memory_order_relaxed);
  }
}

}  // namespace faultline::tracking
