#include "base/private_path.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/text.h"

namespace faultline {
namespace {

class PrivatePathTest : public testing::Test {
 protected:
  PrivatePathTest() {
    char name[] = "/tmp/faultline-private-XXXXXX";
    base_ = mkdtemp(name);
  }
  ~PrivatePathTest() override {
    umask(umask_before_);
    std::filesystem::remove_all(base_);
  }

  static mode_t ModeOf(const std::string& path) {
    struct stat info {};
    EXPECT_EQ(lstat(path.c_str(), &info), 0) << path;
    return info.st_mode & 07777;
  }

  std::string base_;
  const mode_t umask_before_ = umask(022);
};

TEST_F(PrivatePathTest, ModesDoNotDependOnTheUmask) {
  for (mode_t mask : {0, 022, 077, 0277}) {
    umask(mask);
    const std::string file = base_ + "/file";
    ASSERT_TRUE(MakePrivateFile(AT_FDCWD, file, O_WRONLY).ok());
    EXPECT_EQ(ModeOf(file), 0600u) << mask;
  }
  umask(0);
  ASSERT_TRUE(OpenOwnFolder(base_ + "/folder", 0022).ok());
  EXPECT_EQ(ModeOf(base_ + "/folder"), 0700u);
}

TEST_F(PrivatePathTest, ALinkIsReplacedAndNotFollowed) {
  std::ofstream(base_ + "/precious") << "precious";
  std::filesystem::create_symlink(base_ + "/precious", base_ + "/file");
  absl::StatusOr<FileDescriptor> file = MakePrivateFile(AT_FDCWD, base_ + "/file", O_WRONLY);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(write(file->get(), "x", 1), 1);
  EXPECT_EQ(*ReadTextFile(base_ + "/precious"), "precious");
  EXPECT_TRUE(std::filesystem::is_regular_file(std::filesystem::symlink_status(base_ + "/file")));

  // Who has the old file open sees nothing of the new one.
  std::ifstream old(base_ + "/precious");
  ASSERT_TRUE(MakePrivateFile(AT_FDCWD, base_ + "/precious", O_WRONLY).ok());
  std::string text;
  old >> text;
  EXPECT_EQ(text, "precious");
}

TEST_F(PrivatePathTest, AFolderOfOthersIsRefused) {
  auto refused = [](const absl::StatusOr<FileDescriptor>& folder) {
    return absl::IsFailedPrecondition(folder.status());
  };
  std::filesystem::create_directory_symlink(base_, base_ + "/link");
  EXPECT_TRUE(refused(OpenOwnFolder(base_ + "/link", 0022)));
  std::ofstream(base_ + "/file") << "";
  EXPECT_TRUE(refused(OpenOwnFolder(base_ + "/file", 0022)));
  ASSERT_EQ(mkdir((base_ + "/open").c_str(), 0700), 0);
  ASSERT_EQ(chmod((base_ + "/open").c_str(), 0770), 0);
  EXPECT_TRUE(refused(OpenOwnFolder(base_ + "/open", 0022)));
  ASSERT_EQ(chmod((base_ + "/open").c_str(), 0755), 0);
  EXPECT_TRUE(OpenOwnFolder(base_ + "/open", 0022).ok());
  if (geteuid() != 0) return;
  ASSERT_EQ(chown((base_ + "/open").c_str(), 65534, 0), 0);
  EXPECT_TRUE(refused(OpenOwnFolder(base_ + "/open", 0022)));
}

TEST_F(PrivatePathTest, AFileOfOthersIsRefused) {
  const std::string file = base_ + "/file";
  ASSERT_TRUE(MakePrivateFile(AT_FDCWD, file, O_WRONLY).ok());
  EXPECT_TRUE(OpenOwnFile(file, O_RDWR).ok());
  std::filesystem::create_symlink(file, base_ + "/link");
  EXPECT_FALSE(OpenOwnFile(base_ + "/link", O_RDWR).ok());
  EXPECT_TRUE(absl::IsNotFound(OpenOwnFile(base_ + "/none", O_RDWR).status()));
  ASSERT_EQ(chmod(file.c_str(), 0620), 0);
  EXPECT_TRUE(absl::IsFailedPrecondition(OpenOwnFile(file, O_RDWR).status()));
  ASSERT_EQ(chmod(file.c_str(), 0600), 0);
  if (geteuid() != 0) return;
  ASSERT_EQ(chown(file.c_str(), 65534, 0), 0);
  EXPECT_TRUE(absl::IsFailedPrecondition(OpenOwnFile(file, O_RDWR).status()));
}

}  // namespace
}  // namespace faultline
