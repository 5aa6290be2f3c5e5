// Memory of every kind that a VM can have, mapped in this process, with threads that touch it.
#ifndef FAULTLINE_TESTS_MEMORY_GUEST_MAPPING_H_
#define FAULTLINE_TESTS_MEMORY_GUEST_MAPPING_H_

#include <future>
#include <memory>
#include <thread>
#include <vector>

#include "base/file_descriptor.h"
#include "contract/guest_memory_harness.h"
#include "fakes/poll_loop.h"
#include "memory/local_armer.h"
#include "seams/vm_description.h"

namespace faultline {

enum class RamKind { kTmpfs, kMemfd, kAnonymous, kHugetlb };

inline constexpr uint64_t kHugePageBytes = 2 << 20;
inline constexpr uint64_t kTestRegionPages = 64;     // of 4 KiB
inline constexpr uint64_t kTestHugeRegionPages = 8;  // of 2 MiB

// Has at least that many huge pages of 2 MiB in the pool while it lives.
class HugePagePool {
 public:
  explicit HugePagePool(uint64_t pages);
  ~HugePagePool();
  bool enough() const { return enough_; }

 private:
  std::string before_;
  bool enough_ = false;
};

// One file or anonymous stretch of memory, mapped shared (anonymous: private).
class GuestRegion {
 public:
  GuestRegion(RamKind kind, std::string name, uint64_t page_count);
  ~GuestRegion();
  GuestRegion(const GuestRegion&) = delete;
  GuestRegion& operator=(const GuestRegion&) = delete;

  const RamRegion& ram() const { return ram_; }
  std::byte* at(uint64_t page) const { return base_ + page * ram_.layout.page_size_bytes; }

 private:
  FileDescriptor file_;
  std::byte* base_ = nullptr;
  RamRegion ram_;
};

// Two regions armed by LocalArmer, and a thread for each touch.
class UffdHarness : public GuestMemoryHarness {
 public:
  explicit UffdHarness(RamKind kind);
  ~UffdHarness() override;

  GuestMemory& memory() override { return *memory_; }
  PollLoop& loop() override { return loop_; }
  std::future<std::vector<std::byte>> Touch(PageId page) override;
  std::future<void> Discard(PageRun run) override;
  bool tells_discards() const override { return kind_ != RamKind::kHugetlb; }
  bool punches() const override { return kind_ != RamKind::kAnonymous; }

  GuestRegion& region(RegionIndex index) { return *regions_[index]; }

 private:
  const RamKind kind_;
  std::unique_ptr<HugePagePool> pool_;
  std::vector<std::unique_ptr<GuestRegion>> regions_;
  PollLoop loop_;
  LocalArmer armer_;
  std::unique_ptr<GuestMemory> memory_;
  std::vector<std::thread> threads_;
};

}  // namespace faultline

#endif  // FAULTLINE_TESTS_MEMORY_GUEST_MAPPING_H_
