#include "vmm/qemu/kept_ram.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

namespace faultline {
namespace {

class KeptRamTest : public testing::Test {
 protected:
  KeptRamTest() {
    char name[] = "/dev/shm/faultline-kept-XXXXXX";
    base_ = mkdtemp(name);
    region_.path = base_ + "/ram";
    region_.layout = {"ram0", 8192, 4096};
    region_.file_offset_bytes = 4096;
    Make(3 * 4096);
    struct stat info;
    EXPECT_EQ(stat(region_.path.c_str(), &info), 0);
    region_.device = info.st_dev;
    region_.inode = info.st_ino;
  }
  ~KeptRamTest() override { std::filesystem::remove_all(base_); }

  void Make(off_t bytes) {
    FileDescriptor fd(open(region_.path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    EXPECT_EQ(ftruncate(fd.get(), bytes), 0);
  }
  std::string Refusal() { return MessageOf(OpenKeptRam({&region_, 1}, true).status()); }

  std::string base_;
  KeptRegion region_;
};

TEST_F(KeptRamTest, IsFoundAgain) {
  absl::StatusOr<KeptRam> ram = OpenKeptRam({&region_, 1}, /*writable=*/true);
  ASSERT_TRUE(ram.ok()) << ram.status();
  ASSERT_EQ(ram->description.regions.size(), 1u);
  EXPECT_EQ(ram->description.regions[0].layout, region_.layout);
  EXPECT_EQ(ram->description.regions[0].file_offset_bytes, 4096u);
  EXPECT_EQ(ram->description.regions[0].file, ram->files[0].get());
  EXPECT_EQ(pwrite(ram->files[0].get(), "x", 1, 0), 1);
  ram = OpenKeptRam({&region_, 1}, /*writable=*/false);
  EXPECT_EQ(pwrite(ram->files[0].get(), "x", 1, 0), -1);
}

TEST_F(KeptRamTest, AnotherFileIsNotTakenForIt) {
  Make(2 * 4096);
  EXPECT_NE(Refusal().find("is not the one"), std::string::npos) << Refusal();
  std::filesystem::rename(region_.path, region_.path + ".old");
  EXPECT_NE(Refusal().find("is gone"), std::string::npos) << Refusal();
  EXPECT_NE(Refusal().find(region_.path), std::string::npos) << Refusal();
  Make(3 * 4096);
  EXPECT_NE(Refusal().find("is not the one"), std::string::npos) << Refusal();
}

}  // namespace
}  // namespace faultline
