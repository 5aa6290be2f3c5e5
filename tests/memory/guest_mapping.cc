#include "memory/guest_mapping.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <fstream>

#include "base/check.h"
#include "memory/uffd_guest_memory_factory.h"

namespace faultline {
namespace {

constexpr char kPoolPath[] = "/sys/kernel/mm/hugepages/hugepages-2048kB/";

uint64_t ReadPool(const char* name) {
  uint64_t pages = 0;
  std::ifstream(std::string(kPoolPath) + name) >> pages;
  return pages;
}

FileDescriptor MakeFile(RamKind kind, uint64_t size_bytes) {
  int fd = -1;
  switch (kind) {
    case RamKind::kTmpfs:
      fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
      break;
    case RamKind::kMemfd:
      fd = memfd_create("guest", MFD_CLOEXEC);
      break;
    case RamKind::kHugetlb:
      fd = memfd_create("guest", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB);
      break;
    case RamKind::kAnonymous:
      return {};
  }
  FAULTLINE_CHECK(fd >= 0 && ftruncate(fd, static_cast<off_t>(size_bytes)) == 0);
  return FileDescriptor(fd);
}

}  // namespace

HugePagePool::HugePagePool(uint64_t pages) {
  std::string path = std::string(kPoolPath) + "nr_hugepages";
  std::ifstream(path) >> before_;
  uint64_t free_pages = ReadPool("free_hugepages") - ReadPool("resv_hugepages");
  if (free_pages < pages) {
    std::ofstream(path) << std::stoull(before_) + pages - free_pages;
  }
  enough_ = ReadPool("free_hugepages") - ReadPool("resv_hugepages") >= pages;
}

HugePagePool::~HugePagePool() { std::ofstream(std::string(kPoolPath) + "nr_hugepages") << before_; }

GuestRegion::GuestRegion(RamKind kind, std::string name, uint64_t page_count) {
  uint64_t page_bytes = kind == RamKind::kHugetlb ? kHugePageBytes : 4096;
  ram_.layout = {std::move(name), page_count * page_bytes, page_bytes};
  file_ = MakeFile(kind, ram_.layout.size_bytes);
  int flags = file_.valid() ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
  void* base = mmap(nullptr, ram_.layout.size_bytes, PROT_READ | PROT_WRITE, flags, file_.get(), 0);
  FAULTLINE_CHECK(base != MAP_FAILED);
  base_ = static_cast<std::byte*>(base);
  ram_.file = file_.get();
  ram_.host_address = reinterpret_cast<uint64_t>(base);
}

GuestRegion::~GuestRegion() { munmap(base_, ram_.layout.size_bytes); }

UffdHarness::UffdHarness(RamKind kind) : kind_(kind) {
  uint64_t pages = kind == RamKind::kHugetlb ? kTestHugeRegionPages : kTestRegionPages;
  if (kind == RamKind::kHugetlb) {
    pool_ = std::make_unique<HugePagePool>(2 * pages);
    FAULTLINE_CHECK(pool_->enough());
  }
  VmDescription vm;
  for (const char* name : {"ram0", "ram1"}) {
    regions_.push_back(std::make_unique<GuestRegion>(kind, name, pages));
    vm.regions.push_back(regions_.back()->ram());
  }
  UffdGuestMemoryFactory factory(&armer_, &loop_, {});
  absl::StatusOr<std::unique_ptr<GuestMemory>> memory = factory.Arm(vm);
  if (!memory.ok()) fmt::print(stderr, "{}\n", MessageOf(memory.status()));
  FAULTLINE_CHECK(memory.ok());
  memory_ = *std::move(memory);
}

UffdHarness::~UffdHarness() {
  for (std::thread& thread : threads_) thread.join();
}

std::future<std::vector<std::byte>> UffdHarness::Touch(PageId page) {
  std::promise<std::vector<std::byte>> promise;
  auto future = promise.get_future();
  threads_.emplace_back([this, page, promise = std::move(promise)]() mutable {
    const std::byte* first = regions_[page.region]->at(page.index);
    // One plain load waits for the page; a sanitizer's copy of it would do so under its own locks.
    static_cast<void>(*const_cast<const volatile std::byte*>(first));
    size_t size = regions_[page.region]->ram().layout.page_size_bytes;
    promise.set_value(std::vector<std::byte>(first, first + size));
  });
  return future;
}

std::future<void> UffdHarness::Discard(PageRun run) {
  std::promise<void> promise;
  auto future = promise.get_future();
  threads_.emplace_back([this, run, promise = std::move(promise)]() mutable {
    const GuestRegion& region = *regions_[run.region];
    size_t page_bytes = region.ram().layout.page_size_bytes;
    size_t size = run.count * page_bytes;
    if (region.ram().file >= 0) {
      // As QEMU's ram_block_discard_range does: the file first, then the mapping.
      int rc = fallocate(region.ram().file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                         static_cast<off_t>(run.first * page_bytes), static_cast<off_t>(size));
      FAULTLINE_CHECK(rc == 0);
    }
    FAULTLINE_CHECK(madvise(region.at(run.first), size, MADV_DONTNEED) == 0);
    promise.set_value();
  });
  return future;
}

}  // namespace faultline
