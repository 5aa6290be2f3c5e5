// RamFileSource: the SourceMemory contract over each kind of file and on the fake, and the ways in
// which the map is read.
#include "memory/ram_file_source.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "base/check.h"
#include "contract/source_memory_contract.h"
#include "fakes/fake_source_memory.h"
#include "memory/guest_mapping.h"
#include "memory/hugetlb_data.h"

namespace faultline {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class FakeSourceHarness : public SourceMemoryHarness {
 public:
  SourceMemory& memory() override { return memory_; }
  void Fill(PageId page, std::byte value) override { memory_.Fill(page, value); }
  void Punch(PageId page) override { memory_.Punch(page); }
  uint64_t pages_held() override {
    uint64_t pages = 0;
    AllocationMap map = *memory_.ReadAllocationMap();
    for (const PageRangeSet& region : map) pages += region.page_count();
    return pages;
  }

 private:
  FakeSourceMemory memory_{{{"ram0", 64 * 4096, 4096}, {"ram1", 64 * 4096, 4096}}};
};

void FillPage(const GuestRegion& region, uint64_t page, std::byte value) {
  memset(region.at(page), static_cast<int>(value), region.ram().layout.page_size_bytes);
}

void PunchPages(const GuestRegion& region, uint64_t first, uint64_t count) {
  uint64_t page_bytes = region.ram().layout.page_size_bytes;
  FAULTLINE_CHECK(fallocate(region.ram().file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                            static_cast<off_t>(first * page_bytes),
                            static_cast<off_t>(count * page_bytes)) == 0);
}

class RamFileHarness : public SourceMemoryHarness {
 public:
  // More stretches than SEEK_DATA is used for, if `pages` is large.
  RamFileHarness(RamKind kind, uint64_t pages) {
    if (kind == RamKind::kHugetlb) pool_ = std::make_unique<HugePagePool>(2 * pages);
    VmDescription vm;
    for (const char* name : {"ram0", "ram1"}) {
      regions_.push_back(std::make_unique<GuestRegion>(kind, name, pages));
      vm.regions.push_back(regions_.back()->ram());
    }
    memory_ = *RamFileSource::Make(vm);
  }
  SourceMemory& memory() override { return *memory_; }
  void Fill(PageId page, std::byte value) override {
    FillPage(*regions_[page.region], page.index, value);
  }
  void Punch(PageId page) override { PunchPages(*regions_[page.region], page.index, 1); }
  uint64_t pages_held() override {
    uint64_t blocks = 0;
    for (auto& region : regions_) {
      struct stat info;
      FAULTLINE_CHECK(fstat(region->ram().file, &info) == 0);
      blocks += static_cast<uint64_t>(info.st_blocks);
    }
    return blocks * 512 / regions_[0]->ram().layout.page_size_bytes;
  }

 private:
  std::unique_ptr<HugePagePool> pool_;
  std::vector<std::unique_ptr<GuestRegion>> regions_;
  std::unique_ptr<SourceMemory> memory_;
};

std::function<std::unique_ptr<SourceMemoryHarness>()> MakeRamFile(RamKind kind, uint64_t pages) {
  return [=] { return std::make_unique<RamFileHarness>(kind, pages); };
}

INSTANTIATE_TEST_SUITE_P(
    All, SourceMemoryContract,
    testing::Values(SourceMemoryCase{"Tmpfs", MakeRamFile(RamKind::kTmpfs, 64)},
                    SourceMemoryCase{"TmpfsOfManyStretches", MakeRamFile(RamKind::kTmpfs, 8192)},
                    SourceMemoryCase{"Memfd", MakeRamFile(RamKind::kMemfd, 64)},
                    SourceMemoryCase{"Hugetlb", MakeRamFile(RamKind::kHugetlb, 8)},
                    SourceMemoryCase{"Fake", [] { return std::make_unique<FakeSourceHarness>(); }}),
    [](const auto& tested) { return tested.param.name; });

// --- What SEEK_DATA, mincore and st_blocks say must come to the same ---

uint64_t MappedPages(const GuestRegion& region) {
  VmDescription vm;
  vm.regions.push_back(region.ram());
  auto source = RamFileSource::Make(vm);
  FAULTLINE_CHECK(source.ok());
  auto map = (*source)->ReadAllocationMap();
  FAULTLINE_CHECK(map.ok());
  return (*map)[0].page_count();
}

// So many stretches that SEEK_DATA is given up.
constexpr uint64_t kManyPages = 8192;

void FillEveryOther(const GuestRegion& region) {
  for (uint64_t page = 0; page < kManyPages; page += 2) FillPage(region, page, std::byte{1});
}

TEST(RamFileSource, ReservedButUnwrittenPagesAreNoData) {
  GuestRegion region(RamKind::kTmpfs, "ram", kManyPages);
  FillEveryOther(region);
  // Pages that the file owns and nobody wrote: st_blocks counts them, mincore does not.
  ASSERT_EQ(fallocate(region.ram().file, FALLOC_FL_KEEP_SIZE, 0, 64 * 4096), 0);
  EXPECT_EQ(MappedPages(region), kManyPages / 2);
}

TEST(RamFileSource, PartOfAFileIsReadAlone) {
  GuestRegion region(RamKind::kTmpfs, "ram", kManyPages);
  FillEveryOther(region);
  RamRegion second_half = region.ram();
  second_half.file_offset_bytes = second_half.layout.size_bytes /= 2;
  VmDescription vm;
  vm.regions = {second_half};
  auto source = RamFileSource::Make(vm);
  ASSERT_TRUE(source.ok()) << source.status();
  auto map = (*source)->ReadAllocationMap();
  ASSERT_TRUE(map.ok()) << map.status();
  EXPECT_EQ((*map)[0].page_count(), kManyPages / 4);
  EXPECT_TRUE((*map)[0].Contains(0));
  EXPECT_FALSE((*map)[0].Contains(1));
}

// Swap in a file, for the test's length.
class Swap {
 public:
  Swap() : path_(testing::TempDir() + "swap" + std::to_string(getpid())) {
    std::string command = "fallocate -l 48M " + path_ + " && chmod 600 " + path_ +
                          " && mkswap -q " + path_ + " && swapon " + path_;
    on_ = system(command.c_str()) == 0;
  }
  ~Swap() {
    if (on_) {
      EXPECT_EQ(system(("swapoff " + path_).c_str()), 0);
    }
    unlink(path_.c_str());
  }
  bool on() const { return on_; }

 private:
  std::string path_;
  bool on_ = false;
};

// A memory cgroup with this process in it, so that what it allocates can be reclaimed on demand.
class MemoryGroup {
 public:
  MemoryGroup() {
    for (const char* root : {"/sys/fs/cgroup/memory", "/sys/fs/cgroup"}) {
      root_ = root;
      path_ = root_ + "/faultline-test-" + std::to_string(getpid());
      if (mkdir(path_.c_str(), 0700) != 0) continue;
      joined_ = Write(path_ + "/cgroup.procs", std::to_string(getpid()));
      return;
    }
  }
  ~MemoryGroup() {
    Write(root_ + "/cgroup.procs", std::to_string(getpid()));
    rmdir(path_.c_str());
  }
  bool joined() const { return joined_; }
  // Version 1, then version 2.
  bool Reclaim() {
    return Write(path_ + "/memory.force_empty", "0") || Write(path_ + "/memory.reclaim", "64M");
  }

 private:
  static bool Write(const std::string& path, const std::string& text) {
    std::ofstream file(path);
    file << text << std::flush;
    return file.good();
  }

  std::string root_;
  std::string path_;
  bool joined_ = false;
};

uint64_t ResidentPages(const GuestRegion& region) {
  std::vector<unsigned char> resident(region.ram().layout.page_count());
  FAULTLINE_CHECK(mincore(region.at(0), region.ram().layout.size_bytes, resident.data()) == 0);
  return static_cast<uint64_t>(std::count_if(resident.begin(), resident.end(),
                                             [](unsigned char c) { return (c & 1) != 0; }));
}

TEST(RamFileSource, PagesInSwapAreData) {
  Swap swap;
  MemoryGroup group;
  if (!swap.on() || !group.joined()) GTEST_SKIP() << "no swap or no memory cgroup to be had";
  GuestRegion region(RamKind::kTmpfs, "ram", kManyPages);
  FillEveryOther(region);
  group.Reclaim();
  if (ResidentPages(region) == kManyPages / 2) GTEST_SKIP() << "nothing was swapped out";
  EXPECT_EQ(MappedPages(region), kManyPages / 2);
  EXPECT_LT(ResidentPages(region), kManyPages / 2);
}

TEST(RamFileSource, HugePagesAreFoundBothWays) {
  HugePagePool pool(8);
  ASSERT_TRUE(pool.enough());
  GuestRegion region(RamKind::kHugetlb, "ram", 8);
  region.at(1)[kHugePageBytes - 1] = std::byte{1};
  FillPage(region, 6, std::byte{0});  // there, and zero
  auto by_continue = FindHugetlbPagesByContinue(region.ram());
  ASSERT_TRUE(by_continue.ok()) << by_continue.status();
  PageRangeSet wanted;
  wanted.Add(1, 2);
  wanted.Add(6, 7);
  EXPECT_EQ(*by_continue, wanted);
  auto by_reading = FindHugetlbPagesByReading(region.ram());
  ASSERT_TRUE(by_reading.ok()) << by_reading.status();
  wanted.Remove(6, 7);
  EXPECT_EQ(*by_reading, wanted);
  struct stat info;
  ASSERT_EQ(fstat(region.ram().file, &info), 0);
  EXPECT_EQ(static_cast<uint64_t>(info.st_blocks) * 512, 2 * kHugePageBytes);
}

// --- Files that will not do ---

std::string SentenceFor(const RamRegion& region) {
  VmDescription vm;
  vm.regions = {region};
  return MessageOf(RamFileSource::Make(vm).status());
}

TEST(RamFileSource, RefusesRegionWithoutAFile) {
  EXPECT_THAT(SentenceFor({.layout = {"pc.ram", 4096, 4096}}),
              AllOf(HasSubstr("'pc.ram'"), HasSubstr("share=on")));
}

TEST(RamFileSource, RefusesShortFile) {
  GuestRegion region(RamKind::kTmpfs, "ram", 4);
  RamRegion longer = region.ram();
  longer.layout.size_bytes *= 2;
  EXPECT_THAT(SentenceFor(longer), AllOf(HasSubstr("16384 bytes"), HasSubstr("32768")));
}

TEST(RamFileSource, RefusesFileOnADisk) {
  FileDescriptor file(open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  ASSERT_TRUE(file.valid());
  ASSERT_EQ(ftruncate(file.get(), 4096), 0);
  EXPECT_THAT(SentenceFor({.layout = {"ram", 4096, 4096}, .file = file.get()}),
              AllOf(HasSubstr("disk"), HasSubstr("/dev/shm")));
}

TEST(RamFileSource, WhatMayNotBeWrittenIsNotMappedForADevice) {
  FileDescriptor file(memfd_create("ram", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(ftruncate(file.get(), 4096), 0);
  ASSERT_EQ(fcntl(file.get(), F_ADD_SEALS, F_SEAL_WRITE), 0);
  VmDescription vm;
  vm.regions = {{.layout = {"ram", 4096, 4096}, .file = file.get()}};
  auto source = RamFileSource::Make(vm);
  ASSERT_TRUE(source.ok()) << source.status();
  auto mapped = (*source)->Map(0, 0);
  EXPECT_TRUE(absl::IsFailedPrecondition(mapped.status())) << mapped.status();
  EXPECT_THAT(MessageOf(mapped.status()), AllOf(HasSubstr("'ram'"), HasSubstr("tcp://")));
}

TEST(RamFileSource, EachViewIsAMappingOfItsOwnOfTheSameBytes) {
  GuestRegion region(RamKind::kTmpfs, "ram", 4);
  VmDescription vm;
  vm.regions = {region.ram()};
  auto source = RamFileSource::Make(vm);
  ASSERT_TRUE(source.ok()) << source.status();
  const std::span<std::byte> first = (*source)->Map(0, 0).value();
  const std::span<std::byte> third = (*source)->Map(0, 2).value();
  EXPECT_EQ((*source)->Map(0, 0).value().data(), first.data()) << "it was mapped before";
  ASSERT_EQ(third.size(), first.size());
  EXPECT_NE(third.data(), first.data());
  third[0] = std::byte{0x5a};
  EXPECT_EQ(first[0], std::byte{0x5a});
}

TEST(RamFileSource, FactoryOpens) {
  GuestRegion region(RamKind::kTmpfs, "ram", 4);
  VmDescription vm;
  vm.regions = {region.ram()};
  RamFileSourceFactory factory;
  auto memory = factory.Open(vm);
  ASSERT_TRUE(memory.ok()) << memory.status();
  EXPECT_EQ((*memory)->layout(), vm.layout());
}

}  // namespace
}  // namespace faultline
