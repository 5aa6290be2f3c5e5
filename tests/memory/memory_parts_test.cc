// The small parts: addresses, the page-state memfd, making a userfaultfd.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "memory/address_map.h"
#include "memory/guest_mapping.h"
#include "memory/kernel_abi.h"
#include "memory/page_state_memfd.h"
#include "memory/soft_dirty_tracker.h"
#include "memory/uffd_setup.h"

namespace faultline {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr uint64_t kMiB = uint64_t{1} << 20;

TEST(AddressMap, FindsPagesBothWays) {
  MemoryLayout layout = {{"b", 16 * 4096, 4096}, {"huge", 4 * kMiB, 2 * kMiB}};
  std::vector<uint64_t> addresses = {64 * kMiB, 32 * kMiB};
  auto map = AddressMap::Make(layout, addresses);
  ASSERT_TRUE(map.ok()) << map.status();
  EXPECT_EQ(map->PageAt(64 * kMiB), (PageId{0, 0}));
  EXPECT_EQ(map->PageAt(64 * kMiB + 16 * 4096 - 1), (PageId{0, 15}));
  EXPECT_EQ(map->PageAt(64 * kMiB + 16 * 4096), std::nullopt);
  EXPECT_EQ(map->PageAt(32 * kMiB + 3 * kMiB), (PageId{1, 1}));
  EXPECT_EQ(map->PageAt(32 * kMiB - 1), std::nullopt);
  EXPECT_EQ(map->PageAt(36 * kMiB), std::nullopt);
  EXPECT_EQ(map->AddressOf({1, 1}), 34 * kMiB);
  EXPECT_TRUE(map->Contains({0, 15, 1}));
  EXPECT_FALSE(map->Contains({0, 15, 2}));
  EXPECT_FALSE(map->Contains({0, UINT64_MAX, 2}));
  EXPECT_FALSE(map->Contains({2, 0, 1}));
}

TEST(AddressMap, RangesGiveWholePagesOfEachRegion) {
  MemoryLayout layout = {{"a", 16 * 4096, 4096}, {"huge", 4 * kMiB, 2 * kMiB}};
  std::vector<uint64_t> addresses = {2 * kMiB - 16 * 4096, 2 * kMiB};
  auto map = AddressMap::Make(layout, addresses);
  ASSERT_TRUE(map.ok()) << map.status();
  EXPECT_EQ(map->RunsIn(0, UINT64_MAX), (std::vector<PageRun>{{0, 0, 16}, {1, 0, 2}}));
  EXPECT_EQ(map->RunsIn(2 * kMiB - 8192, 5 * kMiB), (std::vector<PageRun>{{0, 14, 2}, {1, 0, 1}}));
  EXPECT_EQ(map->RunsIn(2 * kMiB + 4096, 5 * kMiB), std::vector<PageRun>());
  EXPECT_EQ(map->RunsIn(8 * kMiB, 9 * kMiB), std::vector<PageRun>());
}

TEST(AddressMap, RefusesOverlapAndCrookedness) {
  MemoryLayout layout = {{"a", 8192, 4096}, {"b", 8192, 4096}};
  EXPECT_THAT(MessageOf(AddressMap::Make(layout, std::vector<uint64_t>{4096, 8192}).status()),
              AllOf(HasSubstr("'a' and 'b'"), HasSubstr("overlap")));
  EXPECT_FALSE(AddressMap::Make(layout, std::vector<uint64_t>{4096, 8193}).ok());
  EXPECT_FALSE(AddressMap::Make(layout, std::vector<uint64_t>{4096, UINT64_MAX - 4095}).ok());
}

TEST(PageStateMemfd, OutlivesItsMaker) {
  MemoryLayout layout = {{"ram", 100 * 4096, 4096}};
  FileDescriptor kept;
  {
    auto made = PageStateMemfd::Create(layout);
    ASSERT_TRUE(made.ok()) << made.status();
    made->table().ChangeMissing({0, 10, 20}, PageState::kInstalled);
    kept = *made->memfd().Duplicate();
  }
  auto adopted = PageStateMemfd::Adopt(std::move(kept), layout);
  ASSERT_TRUE(adopted.ok()) << adopted.status();
  EXPECT_EQ(adopted->table().missing_pages(), 80u);
  EXPECT_EQ(adopted->table().Get({0, 29}), PageState::kInstalled);
}

TEST(PageStateMemfd, CannotBeCutOff) {
  auto made = PageStateMemfd::Create({{"ram", 4096, 4096}});
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_LT(ftruncate(made->memfd().get(), 0), 0);
}

TEST(PageStateMemfd, AdoptsOnlyItsOwnKind) {
  MemoryLayout layout = {{"ram", 100 * 4096, 4096}};
  FileDescriptor unsealed(memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(ftruncate(unsealed.get(), 8192), 0);
  EXPECT_THAT(MessageOf(PageStateMemfd::Adopt(std::move(unsealed), layout).status()),
              HasSubstr("sealed"));
  FileDescriptor no_memfd(open("/dev/null", O_RDWR | O_CLOEXEC));
  EXPECT_FALSE(PageStateMemfd::Adopt(std::move(no_memfd), layout).ok());
  auto made = PageStateMemfd::Create(layout);
  EXPECT_THAT(
      MessageOf(PageStateMemfd::Adopt(*made->memfd().Duplicate(), {{"ram", 4096, 4096}}).status()),
      HasSubstr("100 pages"));
}

TEST(UffdSetup, NamesFeatures) {
  EXPECT_EQ(UffdFeatureNames(PostCopyUffdFeatures()),
            "EVENT_REMOVE, MISSING_SHMEM, MISSING_HUGETLBFS, THREAD_ID");
  EXPECT_EQ(UffdFeatureNames(UFFD_FEATURE_THREAD_ID | (uint64_t{1} << 60)),
            "THREAD_ID, 0x1000000000000000");
}

TEST(UffdSetup, MissingFeatureIsNamed) {
  FileDescriptor uffd = *MakeUffd();
  absl::Status status = SetUpUffd(uffd.get(), PostCopyUffdFeatures() | uint64_t{1} << 60);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(MessageOf(status), AllOf(HasSubstr("lacks 0x1000000000000000"), HasSubstr("Linux")));
}

// Without privilege, and with the device closed to it, a process is told all three ways out.
TEST(UffdSetup, UnprivilegedProcessIsToldTheMends) {
  std::string setting;
  std::ifstream("/proc/sys/vm/unprivileged_userfaultfd") >> setting;
  if (geteuid() != 0 || setting != "0") GTEST_SKIP() << "this machine lets everyone make one";
  pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if (setgid(65534) != 0 || setuid(65534) != 0) _exit(2);
    absl::StatusOr<FileDescriptor> uffd = MakeUffd();
    std::string sentence = MessageOf(uffd.status());
    bool good = uffd.status().code() == absl::StatusCode::kPermissionDenied;
    for (const char* mend : {"root", "/dev/userfaultfd", "vm.unprivileged_userfaultfd=1"}) {
      good = good && sentence.find(mend) != std::string::npos;
    }
    _exit(good ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

TEST(UffdSetup, RegisterSaysWhatTheRangeMustBe) {
  FileDescriptor uffd = *MakeUffd();
  ASSERT_TRUE(SetUpUffd(uffd.get(), PostCopyUffdFeatures()).ok());
  EXPECT_THAT(MessageOf(RegisterMissing(uffd.get(), 4096, 4096, "pc.ram").status()),
              AllOf(HasSubstr("'pc.ram'"), HasSubstr("mapped whole")));
}

TEST(SoftDirtyTracker, ASwapAreaIsOneLineBelowTheHeadings) {
  const std::string headings = "Filename\tType\tSize\tUsed\tPriority\n";
  EXPECT_FALSE(NamesSwapArea(""));
  EXPECT_FALSE(NamesSwapArea(headings));
  EXPECT_TRUE(NamesSwapArea(headings + "/dev/dm-1  partition\t999420\t0\t-2\n"));
}

}  // namespace
}  // namespace faultline
