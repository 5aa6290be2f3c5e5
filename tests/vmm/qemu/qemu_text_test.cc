#include "vmm/qemu/qemu_text.h"

#include <gtest/gtest.h>
#include <sys/sysmacros.h>

namespace faultline {
namespace {

// Recorded from QEMU 7.2.22, with an unattached memfd backend (no name).
constexpr const char* kBlocks72 =
    "              Block Name    PSize              Offset               Used              "
    "Total\r\n"
    "                     ram    4 KiB  0x0000000000000000 0x0000000002000000 "
    "0x0000000002000000\r\n"
    "                            4 KiB  0x0000000002000000 0x0000000000400000 "
    "0x0000000000400000\r\n"
    "    /rom@etc/acpi/tables    4 KiB  0x0000000002480000 0x0000000000020000 "
    "0x0000000000200000\r\n"
    "                 pc.bios    4 KiB  0x0000000002400000 0x0000000000040000 "
    "0x0000000000040000\r\n";

// Recorded from QEMU 10.0.2, the first line's page size changed to a huge one.
constexpr const char* kBlocks10 =
    "              Block Name    PSize              Offset               Used              Total"
    "                HVA  RO\r\n"
    "            /objects/ram    2 MiB  0x0000000000000000 0x0000000002000000 0x0000000002000000 "
    "0x00007fe861fff000  rw\r\n"
    "    /rom@etc/acpi/tables    4 KiB  0x0000000002480000 0x0000000000020000 0x0000000000200000 "
    "0x00007fe861800000  ro\r\n";

TEST(QemuText, RamBlocksOf72) {
  auto blocks = ParseRamBlocks(kBlocks72);
  ASSERT_TRUE(blocks.ok()) << blocks.status();
  ASSERT_EQ(blocks->size(), 3u);
  EXPECT_EQ((*blocks)[0], (RamBlock{"ram", 4096, 0x2000000, 0x2000000, 0}));
  EXPECT_EQ((*blocks)[1], (RamBlock{"/rom@etc/acpi/tables", 4096, 0x20000, 0x200000, 0}));
  EXPECT_EQ((*blocks)[2].name, "pc.bios");
}

TEST(QemuText, RamBlocksOf10) {
  auto blocks = ParseRamBlocks(kBlocks10);
  ASSERT_TRUE(blocks.ok()) << blocks.status();
  ASSERT_EQ(blocks->size(), 2u);
  EXPECT_EQ((*blocks)[0],
            (RamBlock{"/objects/ram", 2 << 20, 0x2000000, 0x2000000, 0x7fe861fff000}));
}

TEST(QemuText, RamBlockNameMayHoldBlanks) {
  auto blocks = ParseRamBlocks("Block Name PSize\n  my  ram    1 GiB  0x0 0x40000000 0x40000000\n");
  ASSERT_TRUE(blocks.ok()) << blocks.status();
  ASSERT_EQ(blocks->size(), 1u);
  EXPECT_EQ((*blocks)[0].name, "my  ram");
  EXPECT_EQ((*blocks)[0].page_size_bytes, uint64_t{1} << 30);
}

TEST(QemuText, UnknownFormIsAnErrorNotAGuess) {
  for (const char* text :
       {"Block Name\nram 4 KiB 0x0 0x1000\n", "Block Name\nram 4 XiB 0x0 0x1 0x1\n",
        "Block Name\nunknown command: 'info ramblock'\n",
        "Block Name\nram 4 KiB 0x0 0xzz 0x1000\n"}) {
    auto blocks = ParseRamBlocks(text);
    EXPECT_FALSE(blocks.ok()) << text;
    EXPECT_NE(MessageOf(blocks.status()).find("info ramblock"), std::string::npos);
  }
}

TEST(QemuText, ProcessMaps) {
  auto mappings = ParseProcessMaps(
      "7f29f87fe000-7f29fa7fe000 rw-s 00001000 00:1b 42                         /dev/shm/a b\n"
      "55d0c8a00000-55d0c8a01000 r--p 00000000 fe:01 1234   /usr/bin/qemu\n"
      "7ffd1000-7ffd2000 rw-p 00000000 00:00 0\n"
      "nonsense\n");
  ASSERT_EQ(mappings.size(), 3u);
  EXPECT_EQ(mappings[0].start, 0x7f29f87fe000u);
  EXPECT_EQ(mappings[0].end, 0x7f29fa7fe000u);
  EXPECT_EQ(mappings[0].offset, 0x1000u);
  EXPECT_TRUE(mappings[0].shared);
  EXPECT_EQ(mappings[0].device, makedev(0, 0x1b));
  EXPECT_EQ(mappings[0].inode, 42u);
  EXPECT_EQ(mappings[0].path, "/dev/shm/a b");
  EXPECT_FALSE(mappings[1].shared);
  EXPECT_EQ(mappings[2].path, "");
}

TEST(QemuText, LockedBytes) {
  EXPECT_EQ(ParseLockedBytes("Name:\tqemu\nVmLck:\t   32768 kB\nVmPin:\t 0 kB\n"), 32u << 20);
  EXPECT_EQ(ParseLockedBytes("Name:\tqemu\n"), 0u);
}

TEST(QemuText, MountOptions) {
  const std::string table =
      "22 28 0:20 / /sys rw,nosuid - sysfs sysfs rw\n"
      "30 22 0:27 / /dev/shm rw,nosuid,nodev shared:4 - tmpfs tmpfs rw,size=100k,huge=always\n";
  EXPECT_EQ(ParseMountOptions(table, makedev(0, 27)), "rw,size=100k,huge=always");
  EXPECT_EQ(ParseMountOptions(table, makedev(0, 99)), "");
}

}  // namespace
}  // namespace faultline
