// Whose the RAM file is, whether it is empty, and the factory that asks both.
#include "memory/destination_ram_check.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

#include "base/file_descriptor.h"
#include "memory/guest_mapping.h"
#include "memory/uffd_guest_memory_factory.h"
#include "memory/uffd_setup.h"

namespace faultline {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// A process that has done `work` and waits.
class Other {
 public:
  explicit Other(const std::function<void()>& work) {
    auto sockets = MakeSocketPair();
    child_ = fork();
    if (child_ == 0) {
      prctl(PR_SET_NAME, "other-vm");
      work();
      char byte = 1;
      if (write(sockets->second.get(), &byte, 1) != 1) _exit(1);
      pause();
      _exit(0);
    }
    char byte;
    EXPECT_EQ(read(sockets->first.get(), &byte, 1), 1);
  }
  ~Other() {
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
  }
  int id() const { return child_; }

 private:
  pid_t child_;
};

FileUsers UsersOf(const GuestRegion& region) {
  std::vector<FileIdentity> files = {*IdentityOf(region.ram().file)};
  return *FindFileUsers(files);
}

std::vector<RamRegion> RegionsOf(const GuestRegion& region) { return {region.ram()}; }

TEST(FindFileUsers, FindsWhoMapsAndWhoHasItOpen) {
  GuestRegion region(RamKind::kTmpfs, "ram", 4);
  // A fork shares the mapping and the descriptor.
  Other maps([] {});
  Other opens([&] { munmap(region.at(0), 4 * 4096); });
  Other neither([&] {
    munmap(region.at(0), 4 * 4096);
    close(region.ram().file);
  });
  bool maps_seen = false;
  bool opens_seen = false;
  for (const FileUser& user : UsersOf(region).users) {
    EXPECT_NE(user.process_id, neither.id());
    EXPECT_EQ(user.file, 0u);
    if (user.process_id == maps.id()) {
      EXPECT_TRUE(user.mapped);
      EXPECT_EQ(user.command, "other-vm");
      maps_seen = true;
    } else if (user.process_id == opens.id()) {
      EXPECT_FALSE(user.mapped);
      opens_seen = true;
    } else {
      EXPECT_EQ(user.process_id, getpid());
    }
  }
  EXPECT_TRUE(maps_seen);
  EXPECT_TRUE(opens_seen);
}

TEST(CheckNobodyElseMaps, NamesTheProcess) {
  GuestRegion region(RamKind::kTmpfs, "pc.ram", 4);
  EXPECT_TRUE(CheckNobodyElseMaps(RegionsOf(region), UsersOf(region), getpid()).ok());
  Other other([] {});
  absl::Status status = CheckNobodyElseMaps(RegionsOf(region), UsersOf(region), getpid());
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(MessageOf(status), AllOf(HasSubstr("'pc.ram'"), HasSubstr("other-vm"),
                                       HasSubstr(std::to_string(other.id()))));
  // The VM's own process may.
  EXPECT_TRUE(CheckNobodyElseMaps(RegionsOf(region), UsersOf(region), other.id()).ok());
}

TEST(EnsureEmpty, LeavesEmptyFilesAlone) {
  GuestRegion region(RamKind::kTmpfs, "ram", 4);
  EXPECT_TRUE(EnsureEmpty(RegionsOf(region), UsersOf(region), getpid(), false).ok());
}

TEST(EnsureEmpty, PunchesLeftoversOnlyIfItMay) {
  GuestRegion region(RamKind::kTmpfs, "ram", 4);
  *region.at(2) = std::byte{1};
  absl::Status status = EnsureEmpty(RegionsOf(region), UsersOf(region), getpid(), false);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(MessageOf(status), AllOf(HasSubstr("'ram' holds data"), HasSubstr("-incoming defer"),
                                       HasSubstr("empty file")));
  EXPECT_EQ(*region.at(2), std::byte{1});
  EXPECT_TRUE(EnsureEmpty(RegionsOf(region), UsersOf(region), getpid(), true).ok());
  EXPECT_EQ(*region.at(2), std::byte{0});
}

TEST(EnsureEmpty, NeverPunchesWhatAnotherHasOpen) {
  GuestRegion region(RamKind::kTmpfs, "ram", 4);
  *region.at(0) = std::byte{1};
  Other other([&] { munmap(region.at(0), 4 * 4096); });
  FileUsers users = UsersOf(region);
  EXPECT_TRUE(CheckNobodyElseMaps(RegionsOf(region), users, getpid()).ok());
  EXPECT_THAT(MessageOf(EnsureEmpty(RegionsOf(region), users, getpid(), true)),
              HasSubstr("other-vm) has it open"));
  EXPECT_EQ(*region.at(0), std::byte{1});
}

TEST(EnsureEmpty, NeverPunchesBlindly) {
  GuestRegion region(RamKind::kTmpfs, "ram", 4);
  *region.at(0) = std::byte{1};
  FileUsers users;
  users.hidden_process_count = 3;
  EXPECT_THAT(MessageOf(EnsureEmpty(RegionsOf(region), users, getpid(), true)),
              AllOf(HasSubstr("3 processes"), HasSubstr("root")));
  EXPECT_EQ(*region.at(0), std::byte{1});
}

TEST(EnsureEmpty, PunchesHugePages) {
  HugePagePool pool(2);
  ASSERT_TRUE(pool.enough());
  GuestRegion region(RamKind::kHugetlb, "ram", 2);
  *region.at(1) = std::byte{1};
  EXPECT_FALSE(EnsureEmpty(RegionsOf(region), UsersOf(region), getpid(), false).ok());
  EXPECT_TRUE(EnsureEmpty(RegionsOf(region), UsersOf(region), getpid(), true).ok());
  EXPECT_EQ(*region.at(1), std::byte{0});
}

TEST(CheckNoHugeTmpfs, RefusesHugeAlways) {
  std::string path = testing::TempDir() + "huge" + std::to_string(getpid());
  mkdir(path.c_str(), 0700);
  for (const char* option : {"huge=always", "huge=within_size"}) {
    ASSERT_EQ(mount("tmpfs", path.c_str(), "tmpfs", 0, option), 0);
    {
      FileDescriptor file(open((path + "/ram").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
      std::vector<RamRegion> regions = {{.layout = {"ram", 4096, 4096}, .file = file.get()}};
      absl::Status status = CheckNoHugeTmpfs(regions);
      EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
      EXPECT_THAT(MessageOf(status), AllOf(HasSubstr(option), HasSubstr("remount")));
    }
    umount(path.c_str());
  }
  rmdir(path.c_str());
  GuestRegion region(RamKind::kTmpfs, "ram", 4);
  EXPECT_TRUE(CheckNoHugeTmpfs(RegionsOf(region)).ok());
}

// --- The factory ---

class Factory : public testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<GuestMemory>> Arm(std::vector<RamRegion> regions,
                                                   bool may_punch = false,
                                                   bool guest_may_discard = false) {
    VmDescription vm;
    vm.regions = std::move(regions);
    vm.guest_may_discard = guest_may_discard;
    UffdGuestMemoryFactory factory(&armer_, &loop_, {.may_punch_leftovers = may_punch});
    return factory.Arm(vm);
  }
  PollLoop loop_;
  LocalArmer armer_;
};

TEST_F(Factory, RefusesDataAndPunchesItWhenItMay) {
  GuestRegion region(RamKind::kTmpfs, "ram", 4);
  *region.at(1) = std::byte{1};
  EXPECT_THAT(MessageOf(Arm(RegionsOf(region)).status()), HasSubstr("holds data"));
  auto memory = Arm(RegionsOf(region), true);
  ASSERT_TRUE(memory.ok()) << memory.status();
  EXPECT_EQ((*memory)->InstallZeros({0, 1, 1}).outcome, InstallOutcome::kDone);
  EXPECT_TRUE((*memory)->Disarm().ok());
}

TEST_F(Factory, RefusesFileOfAnother) {
  GuestRegion region(RamKind::kMemfd, "ram", 4);
  Other other([] {});
  EXPECT_THAT(MessageOf(Arm(RegionsOf(region), true).status()),
              HasSubstr(std::to_string(other.id())));
}

TEST_F(Factory, RefusesDiscardsOnHugePages) {
  HugePagePool pool(2);
  GuestRegion region(RamKind::kHugetlb, "ram", 2);
  EXPECT_THAT(MessageOf(Arm(RegionsOf(region), false, true).status()),
              AllOf(HasSubstr("hugetlbfs"), HasSubstr("balloon")));
}

TEST_F(Factory, RefusesWhatCannotBeRegistered) {
  GuestRegion region(RamKind::kAnonymous, "ram", 4);
  RamRegion elsewhere = region.ram();
  elsewhere.host_address = 0;
  EXPECT_THAT(MessageOf(Arm({elsewhere}).status()), HasSubstr("no address"));
  auto first = Arm(RegionsOf(region));
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_THAT(MessageOf(Arm(RegionsOf(region)).status()), HasSubstr("another userfaultfd"));
  EXPECT_TRUE((*first)->Disarm().ok());
}

TEST_F(Factory, FailedArmLeavesNothingRegistered) {
  GuestRegion good(RamKind::kAnonymous, "good", 4);
  GuestRegion bad(RamKind::kAnonymous, "bad", 4);
  RamRegion unmapped = bad.ram();
  unmapped.host_address = 4096;
  EXPECT_FALSE(Arm({good.ram(), unmapped}).ok());
  EXPECT_EQ(*good.at(0), std::byte{0});  // would wait for ever
}

TEST_F(Factory, TakesAGivenUffd) {
  GuestRegion region(RamKind::kAnonymous, "ram", 4);
  FileDescriptor uffd = *MakeUffd();
  ASSERT_TRUE(SetUpUffd(uffd.get(), PostCopyUffdFeatures()).ok());
  LocalArmer armer(std::move(uffd));
  VmDescription vm;
  vm.regions = RegionsOf(region);
  UffdGuestMemoryFactory factory(&armer, &loop_, {});
  auto memory = factory.Arm(vm);
  ASSERT_TRUE(memory.ok()) << memory.status();
  EXPECT_EQ((*memory)->InstallZeros({0, 0, 4}).outcome, InstallOutcome::kDone);
  EXPECT_TRUE((*memory)->Disarm().ok());
}

}  // namespace
}  // namespace faultline
