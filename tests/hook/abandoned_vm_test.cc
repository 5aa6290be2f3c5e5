// What is left of a VM whose source is lost: a process that has the hook preloaded stands for QEMU,
// and the engine that served it has died.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>

#include "assembly/stopped_process.h"
#include "assembly/vm_abandon.h"
#include "base/text.h"
#include "hook/hook_fixture.h"
#include "memory/hook_armer.h"
#include "memory/page_poison.h"
#include "memory/page_state_memfd.h"
#include "memory/uffd_guest_memory_factory.h"

namespace faultline {
namespace {

using testing::HasSubstr;

constexpr int kSigBusStatus = 128 + SIGBUS;

class AbandonedVmTest : public HookFixture {
 protected:
  // Two regions are armed; page 3 of the first one was installed and noted, page 4 landed without
  // being noted, page 9 is absent. All others are missing.
  AbandonedVmTest() {
    StartTarget();
    for (const char* name : {"ram0", "ram1"}) AddRegion(name);
    HookArmer armer(socket_path_, kTimeoutMs);
    UffdGuestMemoryFactory factory(&armer, nullptr, {});
    auto memory = factory.Arm(vm_);
    if (!memory.ok()) {
      ADD_FAILURE() << memory.status();
      abort();
    }
    const std::vector<std::byte> page(kPage, std::byte{42});
    for (uint64_t index : {3, 4}) {
      EXPECT_EQ((*memory)->Install({0, index, 1}, page).outcome, InstallOutcome::kDone);
    }
    (*memory)->table().ChangeMissing({0, 3, 1}, PageState::kInstalled);
    (*memory)->table().ChangeMissing({0, 9, 1}, PageState::kAbsent);
  }

  void AddRegion(const std::string& name) {
    MapFile(name, kMiB);
    const std::string path = scratch_.path() + "/" + name;
    files_.emplace_back(open(path.c_str(), O_RDWR | O_CLOEXEC));
    struct stat info;
    EXPECT_EQ(fstat(files_.back().get(), &info), 0);
    const RegionLayout layout{name, kMiB, kPage};
    vm_.regions.push_back({.layout = layout, .file = files_.back().get()});
    kept_.push_back({.layout = layout, .path = path, .device = info.st_dev, .inode = info.st_ino});
  }

  // A source that comes back after all: page 0 of ram1 arrives, and who waited for it says so.
  void ExpectServedByTheNextEngine(const std::string& said) {
    HookArmer armer(socket_path_, kTimeoutMs);
    UffdGuestMemoryFactory factory(&armer, nullptr, {});
    auto memory = factory.TakeOver(vm_);
    ASSERT_TRUE(memory.ok()) << memory.status();
    const std::vector<std::byte> page(kPage, std::byte{7});
    EXPECT_EQ((*memory)->Install({1, 0, 1}, page).outcome, InstallOutcome::kDone);
    EXPECT_EQ(target_->ReadLine(kTimeoutMs), said);
    EXPECT_TRUE((*memory)->Disarm().ok());
  }

  std::vector<FileDescriptor> files_;
  VmDescription vm_;
  std::vector<KeptRegion> kept_;
};

TEST_F(AbandonedVmTest, TheDumpHasWhatIsThereAndSaysWhatIsMissing) {
  auto vm = TakeAbandonedVm(socket_path_, kept_);
  ASSERT_TRUE(vm.ok()) << vm.status();
  FileDescriptor file(
      open((scratch_.path() + "/dump").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  auto regions = (*vm)->Dump(file.get());
  ASSERT_TRUE(regions.ok()) << regions.status();
  ASSERT_EQ(regions->size(), 2u);
  const DumpedRegion& first = regions->front();
  EXPECT_EQ(first.missing.page_count(), kMiB / kPage - 3);
  for (uint64_t page : {3, 4, 9}) EXPECT_FALSE(first.missing.Contains(page)) << page;
  EXPECT_EQ(regions->back().offset_bytes, kMiB);
  EXPECT_EQ(regions->back().missing.page_count(), kMiB / kPage);
  struct stat info;
  ASSERT_EQ(fstat(file.get(), &info), 0);
  EXPECT_EQ(static_cast<uint64_t>(info.st_size), 2 * kMiB);
  EXPECT_EQ(info.st_blocks * 512, static_cast<off_t>(2 * kPage)) << "it is sparse";
  std::vector<char> page(kPage);
  ASSERT_EQ(pread(file.get(), page.data(), kPage, 4 * kPage), static_cast<ssize_t>(kPage));
  EXPECT_EQ(page, std::vector<char>(kPage, 42));
}

TEST_F(AbandonedVmTest, TheDumpLeavesTheVmAsItWas) {
  target_->Write("read 1 0");
  {
    auto vm = TakeAbandonedVm(socket_path_, kept_);
    ASSERT_TRUE(vm.ok()) << vm.status();
    FileDescriptor file(
        open((scratch_.path() + "/dump").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    ASSERT_TRUE((*vm)->Dump(file.get()).ok());
    EXPECT_FALSE(HookClient::Connect(socket_path_, kTimeoutMs).ok()) << "it has the hook";
  }
  EXPECT_EQ(target_->ReadLine(200), std::nullopt) << "who misses a page waits still";
  ExpectServedByTheNextEngine("byte 7");
}

TEST_F(AbandonedVmTest, AnotherHooksMemoryIsRefused) {
  std::swap(kept_[0], kept_[1]);
  EXPECT_THAT(MessageOf(TakeAbandonedVm(socket_path_, kept_).status()),
              HasSubstr("another memory"));
  EXPECT_THAT(MessageOf(TakeAbandonedVm(socket_path_ + "x", kept_).status()), HasSubstr("hook"));
}

TEST_F(AbandonedVmTest, AStoppedProcessStandsStillAndGoesOn) {
  {
    auto stopped = StoppedProcess::Stop(target_->pid());
    ASSERT_TRUE(stopped.ok()) << stopped.status();
    target_->Write("read 0 " + std::to_string(3 * kPage));
    EXPECT_EQ(target_->ReadLine(200), std::nullopt);
  }
  EXPECT_EQ(target_->ReadLine(kTimeoutMs), "byte 42");
  EXPECT_FALSE(StoppedProcess::Stop(0).ok());
}

// As a vCPU under KVM: the kernel does not let a SIGSTOP end its fault.
TEST_F(AbandonedVmTest, AThreadThatWaitsInsideTheKernelCountsAsStandingStill) {
  target_->Write("tell 1 0");
  SleepMs(50);
  {
    auto vm = TakeAbandonedVm(socket_path_, kept_);
    ASSERT_TRUE(vm.ok()) << vm.status();
    FileDescriptor file(
        open((scratch_.path() + "/dump").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    auto regions = (*vm)->Dump(file.get());
    ASSERT_TRUE(regions.ok()) << regions.status();
    EXPECT_TRUE(regions->back().missing.Contains(0));
  }
  ExpectServedByTheNextEngine("told 7");
}

TEST_F(AbandonedVmTest, PoisonedPagesAreAnErrorAndTheOthersAreAsTheyWere) {
  HookArmer armer(socket_path_, kTimeoutMs);
  UffdGuestMemoryFactory factory(&armer, nullptr, {});
  auto memory = factory.TakeOverUffd(vm_);
  ASSERT_TRUE(memory.ok()) << memory.status();
  ASSERT_TRUE((*memory)->CanPoison());
  auto poisoned = PoisonMissing(memory->get());
  ASSERT_TRUE(poisoned.ok()) << poisoned.status();
  EXPECT_EQ(*poisoned, 2 * kMiB / kPage - 3);
  // Once more, as after a process that died in between.
  EXPECT_EQ(*PoisonMissing(memory->get()), *poisoned);
  ASSERT_TRUE((*memory)->Disarm().ok());
  EXPECT_EQ(target_->Ask("read 0 " + std::to_string(3 * kPage)), "byte 42");
  EXPECT_EQ(target_->Ask("read 0 " + std::to_string(4 * kPage)), "byte 42");
  EXPECT_EQ(target_->Ask("read 0 " + std::to_string(9 * kPage)), "byte 0");
  target_->Write("read 1 " + std::to_string(7 * kPage));
  EXPECT_EQ(target_->Wait(kTimeoutMs), kSigBusStatus);
}

TEST_F(AbandonedVmTest, WhoWaitsForAPoisonedPageIsWoken) {
  target_->Write("read 1 0");
  SleepMs(50);
  HookArmer armer(socket_path_, kTimeoutMs);
  UffdGuestMemoryFactory factory(&armer, nullptr, {});
  auto memory = factory.TakeOverUffd(vm_);
  ASSERT_TRUE(memory.ok()) << memory.status();
  ASSERT_TRUE(PoisonMissing(memory->get()).ok());
  EXPECT_EQ(target_->Wait(kTimeoutMs), kSigBusStatus);
}

}  // namespace
}  // namespace faultline
