#include "memory/room_check.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "memory/cgroup_limits.h"
#include "memory/guest_mapping.h"

namespace faultline {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr uint64_t kMib = uint64_t{1} << 20;
constexpr uint64_t kGib = 1024 * kMib;

RoomFacts Roomy() {
  return {.memory_needed_bytes = kGib,
          .memory_available_bytes = 2 * kGib,
          .tmpfs = {{"/dev/shm", kGib, 2 * kGib}},
          .huge_pages = {{2 * kMib, kGib, kGib, 0}},
          .cgroups = {{"/sys/fs/cgroup/vm/memory.max", 3 * kGib, kGib}}};
}

TEST(CheckRoom, EnoughIsOk) { EXPECT_TRUE(CheckRoom(Roomy()).ok()); }

TEST(CheckRoom, JustEnoughIsOk) {
  RoomFacts facts = Roomy();
  facts.memory_available_bytes = facts.tmpfs[0].free_bytes = kGib;
  facts.cgroups[0].used_bytes = 2 * kGib;
  EXPECT_TRUE(CheckRoom(facts).ok());
}

TEST(CheckRoom, EachShortageHasItsFiguresAndMend) {
  RoomFacts facts = Roomy();
  facts.tmpfs[0].free_bytes = 512 * kMib;
  EXPECT_EQ(CheckRoom(facts).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(MessageOf(CheckRoom(facts)), AllOf(HasSubstr("1.0 GiB"), HasSubstr("512.0 MiB free"),
                                                 HasSubstr("/dev/shm"), HasSubstr("remount")));
  facts = Roomy();
  facts.huge_pages[0].free_bytes = 10 * 2 * kMib;
  EXPECT_THAT(MessageOf(CheckRoom(facts)),
              AllOf(HasSubstr("512 huge pages of 2048 KiB"), HasSubstr("10 are free"),
                    HasSubstr("hugepages-2048kB/nr_hugepages")));
  facts.huge_pages[0].overcommit_bytes = kGib;
  EXPECT_TRUE(CheckRoom(facts).ok());
  facts = Roomy();
  facts.cgroups[0].used_bytes = 4 * kGib;
  EXPECT_THAT(MessageOf(CheckRoom(facts)),
              AllOf(HasSubstr("leaves 0 B"), HasSubstr("4.0 GiB of 3.0 GiB"),
                    HasSubstr("raise /sys/fs/cgroup/vm/memory.max")));
  facts = Roomy();
  facts.memory_available_bytes = 256 * kMib;
  facts.swap_free_bytes = 128 * kMib;
  EXPECT_THAT(MessageOf(CheckRoom(facts)),
              AllOf(HasSubstr("256.0 MiB available"), HasSubstr("128.0 MiB of free swap")));
  facts.swap_free_bytes = kGib;
  EXPECT_TRUE(CheckRoom(facts).ok());
}

TEST(ParseCgroupPlaces, BothVersionsAtOnce) {
  auto places = ParseCgroupPlaces(
      "30 24 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
      "31 24 0:27 / /sys/fs/cgroup/cpu rw shared:3 - cgroup cgroup rw,cpu\n"
      "32 24 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
      "12:cpu,cpuacct:/c\n4:memory:/machine/vm\n0::/user.slice\n");
  ASSERT_EQ(places.size(), 2u);
  EXPECT_EQ(places[0].mount, "/sys/fs/cgroup/memory");
  EXPECT_EQ(places[0].path, "/machine/vm");
  EXPECT_FALSE(places[0].version2);
  EXPECT_EQ(places[1].mount, "/sys/fs/cgroup/unified");
  EXPECT_EQ(places[1].path, "/user.slice");
  EXPECT_TRUE(places[1].version2);
}

TEST(ParseCgroupPlaces, RootGroupAndContainers) {
  auto places = ParseCgroupPlaces("30 24 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup rw\n",
                                  "0::/docker/abc/vm\n");
  ASSERT_EQ(places.size(), 1u);
  EXPECT_EQ(places[0].path, "/vm");
  places = ParseCgroupPlaces("30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n", "0::/\n");
  ASSERT_EQ(places.size(), 1u);
  EXPECT_EQ(places[0].path, "");
  EXPECT_THAT(ParseCgroupPlaces("", "0::/\n"), IsEmpty());
}

// A hierarchy as the kernel shows it, in a directory.
class CgroupTree : public testing::Test {
 protected:
  CgroupTree() : root_(testing::TempDir() + "cgroups" + std::to_string(getpid())) {
    for (const char* path : {"", "/a", "/a/b"}) mkdir((root_ + path).c_str(), 0700);
  }
  ~CgroupTree() override { EXPECT_EQ(system(("rm -r " + root_).c_str()), 0); }
  void Write(const std::string& path, const std::string& text) {
    std::ofstream(root_ + path) << text;
  }
  const std::string root_;
};

TEST_F(CgroupTree, Version2LimitsOfAllLevels) {
  Write("/a/memory.max", "1000000\n");
  Write("/a/memory.current", "500000\n");
  Write("/a/memory.stat", "anon 7\ninactive_file 100000\nactive_file 50000\nshmem 9\n");
  Write("/a/b/memory.max", "max\n");
  Write("/a/b/memory.current", "500000\n");
  auto limits = ReadCgroupLimits({root_, "/a/b", true});
  ASSERT_EQ(limits.size(), 1u);
  EXPECT_EQ(limits[0].limit_file, root_ + "/a/memory.max");
  EXPECT_EQ(limits[0].limit_bytes, 1000000u);
  EXPECT_EQ(limits[0].used_bytes, 350000u);
}

TEST_F(CgroupTree, Version1CountsWithChildrenAndHasNoLimitOfItsOwn) {
  Write("/memory.limit_in_bytes", "9223372036854771712\n");
  Write("/memory.usage_in_bytes", "5\n");
  Write("/a/memory.limit_in_bytes", "8000\n");
  Write("/a/memory.usage_in_bytes", "3000\n");
  Write("/a/memory.stat", "inactive_file 1\ntotal_inactive_file 500\ntotal_active_file 500\n");
  auto limits = ReadCgroupLimits({root_, "/a/b", false});
  ASSERT_EQ(limits.size(), 1u);
  EXPECT_EQ(limits[0].used_bytes, 2000u);
}

TEST(ReadRoomFacts, OfThisHost) {
  GuestRegion region(RamKind::kTmpfs, "ram", 256);
  GuestRegion memfd(RamKind::kMemfd, "more", 256);
  std::vector<RamRegion> regions = {region.ram(), memfd.ram()};
  auto facts = ReadRoomFacts(regions, getpid());
  ASSERT_TRUE(facts.ok()) << facts.status();
  EXPECT_EQ(facts->memory_needed_bytes, 2 * kMib + 4096);
  EXPECT_GT(facts->memory_available_bytes, kMib);
  // A memfd's tmpfs has no limit.
  ASSERT_EQ(facts->tmpfs.size(), 1u);
  EXPECT_EQ(facts->tmpfs[0].mount, "/dev/shm");
  EXPECT_EQ(facts->tmpfs[0].needed_bytes, kMib);
  EXPECT_TRUE(CheckRoom(*facts).ok()) << CheckRoom(*facts);
}

TEST(ReadRoomFacts, SmallTmpfsIsNoRoom) {
  std::string path = testing::TempDir() + "small" + std::to_string(getpid());
  mkdir(path.c_str(), 0700);
  ASSERT_EQ(mount("tmpfs", path.c_str(), "tmpfs", 0, "size=1m"), 0);
  {
    FileDescriptor file(open((path + "/ram").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    ASSERT_EQ(ftruncate(file.get(), 2 * kMib), 0);
    std::vector<RamRegion> regions = {{.layout = {"ram", 2 * kMib, 4096}, .file = file.get()}};
    auto facts = ReadRoomFacts(regions, 0);
    ASSERT_TRUE(facts.ok()) << facts.status();
    EXPECT_THAT(MessageOf(CheckRoom(*facts)), AllOf(HasSubstr(path), HasSubstr("1.0 MiB free")));
  }
  umount(path.c_str());
  rmdir(path.c_str());
}

TEST(ReadRoomFacts, ReservedHugePagesAreNotNeededAgain) {
  HugePagePool pool(8);
  ASSERT_TRUE(pool.enough());
  GuestRegion region(RamKind::kHugetlb, "ram", 8);
  std::vector<RamRegion> regions = {region.ram()};
  auto facts = ReadRoomFacts(regions, getpid());
  ASSERT_TRUE(facts.ok()) << facts.status();
  ASSERT_EQ(facts->huge_pages.size(), 1u);
  EXPECT_EQ(facts->huge_pages[0].needed_bytes, 0u);
  EXPECT_TRUE(CheckRoom(*facts).ok());
  // From a process that has nothing reserved there, all of it is needed, and the pool has none.
  facts = ReadRoomFacts(regions, 1);
  ASSERT_TRUE(facts.ok()) << facts.status();
  EXPECT_EQ(facts->huge_pages[0].needed_bytes, 8 * kHugePageBytes);
  EXPECT_EQ(facts->memory_needed_bytes, 0u);
  if (facts->huge_pages[0].free_bytes < 8 * kHugePageBytes) {
    EXPECT_THAT(MessageOf(CheckRoom(*facts)), HasSubstr("8 huge pages"));
  }
}

}  // namespace
}  // namespace faultline
