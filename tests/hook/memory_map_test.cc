#include "hook/memory_map.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <string>
#include <vector>

#include "hook/fault_server.h"

namespace faultline {
namespace {

// A region of 0x3000 bytes at file offset 0x1000 of inode 99 on device 0:1b.
HookRegion Region() {
  return {.device_major = 0,
          .device_minor = 0x1b,
          .inode = 99,
          .file_offset = 0x1000,
          .size = 0x3000,
          .page_size = 4096,
          .reserved = 0};
}

struct Found {
  HookStatus status;
  uint64_t address;
  uint64_t detail;
};

Found Find(const std::string& maps, const std::vector<HookRegion>& regions = {Region()}) {
  FileDescriptor text = MakePageState(maps);
  std::vector<uint64_t> addresses(regions.size());
  Found found{};
  int error_number = 0;
  found.status = HookFindRegions(text.get(), regions.data(), static_cast<uint32_t>(regions.size()),
                                 addresses.data(), &found.detail, &error_number);
  found.address = addresses.back();
  return found;
}

TEST(MemoryMapTest, FindsARegionInsideALargerMapping) {
  Found found = Find(
      "1000-2000 r-xp 00000000 08:01 99 /bin/other-device\n"
      "7f0000000000-7f0000005000 rw-s 00000000 00:1b 99 /dev/shm/ram\n"
      "7f0000006000-7f0000007000 rw-p 00000000 00:00 0 [stack]\n");
  EXPECT_EQ(found.status, kHookStatusOk);
  EXPECT_EQ(found.address, 0x7f0000001000u);
}

TEST(MemoryMapTest, JoinsAdjacentEntries) {
  Found found = Find(
      "7f0000001000-7f0000002000 rw-s 00001000 00:1b 99 /dev/shm/ram (deleted)\n"
      "7f0000002000-7f0000004000 r--s 00002000 00:1b 99 /dev/shm/ram (deleted)\n");
  EXPECT_EQ(found.status, kHookStatusOk);
  EXPECT_EQ(found.address, 0x7f0000001000u);
}

TEST(MemoryMapTest, RefusesAHoleInTheFileOrInTheAddresses) {
  EXPECT_EQ(Find("7f0000001000-7f0000002000 rw-s 00001000 00:1b 99 x\n"
                 "7f0000003000-7f0000004000 rw-s 00003000 00:1b 99 x\n")
                .status,
            kHookStatusRegionNotCovered);
  EXPECT_EQ(Find("7f0000001000-7f0000002000 rw-s 00001000 00:1b 99 x\n"
                 "7f0000008000-7f000000a000 rw-s 00002000 00:1b 99 x\n")
                .status,
            kHookStatusRegionNotCovered);
  EXPECT_EQ(Find("7f0000001000-7f0000003000 rw-s 00001000 00:1b 99 x\n").status,
            kHookStatusRegionNotCovered);
  EXPECT_EQ(Find("7f0000002000-7f0000004000 rw-s 00002000 00:1b 99 x\n").status,
            kHookStatusRegionNotCovered);
}

TEST(MemoryMapTest, RefusesPrivateAndDoubleMappings) {
  EXPECT_EQ(Find("7f0000001000-7f0000004000 rw-p 00001000 00:1b 99 x\n").status,
            kHookStatusRegionPrivate);
  EXPECT_EQ(Find("7f0000001000-7f0000004000 rw-s 00001000 00:1b 99 x\n"
                 "7f0000011000-7f0000014000 rw-s 00001000 00:1b 99 x\n")
                .status,
            kHookStatusRegionMappedTwice);
  EXPECT_EQ(Find("7f0000001000-7f0000004000 rw-s 00001000 00:1b 99 x\n"
                 "7f0000011000-7f0000012000 r--p 00003000 00:1b 99 x\n")
                .status,
            kHookStatusRegionPrivate);
}

TEST(MemoryMapTest, NamesTheRegionThatIsMissing) {
  HookRegion absent = Region();
  absent.inode = 100;
  Found found = Find("7f0000001000-7f0000004000 rw-s 00001000 00:1b 99 x\n", {Region(), absent});
  EXPECT_EQ(found.status, kHookStatusRegionNotMapped);
  EXPECT_EQ(found.detail, 1u);
}

TEST(MemoryMapTest, LongPathsAndOddLinesDoNoHarm) {
  std::string maps = "not a line of this file\n\n";
  maps += "7e0000001000-7e0000004000 rw-s 00001000 00:1b 98 /" + std::string(9000, 'y') + "\n";
  maps += "7f0000001000-7f0000004000 rw-s 00001000 00:1b 99 /" + std::string(4095, 'x') + "\n";
  Found found = Find(maps);
  EXPECT_EQ(found.status, kHookStatusOk);
  EXPECT_EQ(found.address, 0x7f0000001000u);
}

TEST(MemoryMapTest, AnUnreadableFileIsAnError) {
  HookRegion region = Region();
  uint64_t address = 0;
  uint64_t detail = 0;
  int error_number = 0;
  EXPECT_EQ(HookFindRegions(-1, &region, 1, &address, &detail, &error_number), kHookStatusSystem);
  EXPECT_EQ(error_number, EBADF);
}

}  // namespace
}  // namespace faultline
