// The destination's memory factory through the hook: a process that has the hook preloaded stands
// for QEMU.
#include "memory/hook_armer.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>

#include "fakes/poll_loop.h"
#include "hook/hook_fixture.h"
#include "memory/uffd_guest_memory_factory.h"

namespace faultline {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class HookArmerTest : public HookFixture, public GuestMemory::Listener {
 protected:
  HookArmerTest() : armer_(socket_path_, kTimeoutMs) {
    StartTarget();
    for (const char* name : {"ram0", "ram1"}) AddRegion(name);
  }

  void AddRegion(const std::string& name) {
    MapFile(name, kMiB);
    files_.emplace_back(open((scratch_.path() + "/" + name).c_str(), O_RDWR | O_CLOEXEC));
    vm_.regions.push_back({.layout = {name, kMiB, kPage}, .file = files_.back().get()});
  }

  absl::StatusOr<std::unique_ptr<GuestMemory>> Arm(bool may_punch = false) {
    UffdGuestMemoryFactory factory(&armer_, &loop_, {.may_punch_leftovers = may_punch});
    return factory.Arm(vm_);
  }

  void OnEventsReady() override { EXPECT_TRUE((*memory_)->ReadEvents(&events_).ok()); }

  PollLoop loop_;
  std::vector<FileDescriptor> files_;
  VmDescription vm_;
  HookArmer armer_;
  absl::StatusOr<std::unique_ptr<GuestMemory>> memory_;
  MemoryEvents events_;
};

TEST_F(HookArmerTest, ServesAnotherProcess) {
  memory_ = Arm();
  ASSERT_TRUE(memory_.ok()) << memory_.status();
  (*memory_)->StartEvents(this);
  target_->Write("read 1 " + std::to_string(7 * kPage + 5));
  ASSERT_TRUE(loop_.RunUntil([&] { return !events_.faults.empty(); }));
  EXPECT_EQ(events_.faults.front(), (PageId{1, 7}));
  std::vector<std::byte> bytes(kPage, std::byte{42});
  EXPECT_EQ((*memory_)->Install({1, 7, 1}, bytes).outcome, InstallOutcome::kDone);
  EXPECT_EQ(target_->ReadLine(kTimeoutMs), "byte 42");
  // A new connection is refused while this one is held; after the end the hook is as before.
  EXPECT_FALSE(HookClient::Connect(socket_path_, kTimeoutMs).ok());
  EXPECT_TRUE((*memory_)->Disarm().ok());
  EXPECT_EQ(target_->Ask("read 0 0"), "byte 0");
  memory_ = Arm(true);
  EXPECT_TRUE(memory_.ok()) << memory_.status();
}

TEST_F(HookArmerTest, LeftoversArePunchedOrRefused) {
  ASSERT_NE(target_->Ask("write 0 4096 9"), "");
  EXPECT_THAT(MessageOf(Arm().status()), HasSubstr("'ram0' holds data"));
  memory_ = Arm(true);
  ASSERT_TRUE(memory_.ok()) << memory_.status();
  EXPECT_EQ((*memory_)->InstallZeros({0, 1, 1}).outcome, InstallOutcome::kDone);
  EXPECT_EQ(target_->Ask("read 0 4096"), "byte 0");
}

TEST_F(HookArmerTest, FileThatTheProcessHasNotMappedIsNamed) {
  std::string path = scratch_.MakeFile("stranger", kMiB);
  files_.emplace_back(open(path.c_str(), O_RDWR | O_CLOEXEC));
  vm_.regions.push_back({.layout = {"stranger", kMiB, kPage}, .file = files_.back().get()});
  EXPECT_THAT(MessageOf(Arm().status()), HasSubstr("stranger"));
  // Nothing stays registered.
  EXPECT_EQ(target_->Ask("read 0 0"), "byte 0");
}

TEST_F(HookArmerTest, RegionWithoutAFileIsRefused) {
  vm_.regions.push_back({.layout = {"private", kMiB, kPage}});
  EXPECT_THAT(MessageOf(Arm().status()), AllOf(HasSubstr("'private'"), HasSubstr("share=on")));
}

// The first engine dies: with a fault read and not answered, one page put in and noted, and one put
// in and not noted yet.
TEST_F(HookArmerTest, TheNextEngineTakesOver) {
  memory_ = Arm();
  ASSERT_TRUE(memory_.ok()) << memory_.status();
  (*memory_)->StartEvents(this);
  target_->Write("read 1 " + std::to_string(7 * kPage + 5));
  ASSERT_TRUE(loop_.RunUntil([&] { return !events_.faults.empty(); }));
  std::vector<std::byte> bytes(kPage, std::byte{42});
  ASSERT_EQ((*memory_)->Install({0, 3, 1}, bytes).outcome, InstallOutcome::kDone);
  ASSERT_EQ((*memory_)->table().ChangeMissing({0, 3, 1}, PageState::kInstalled), 1u);
  ASSERT_EQ((*memory_)->Install({0, 4, 1}, bytes).outcome, InstallOutcome::kDone);
  ASSERT_EQ((*memory_)->table().ChangeMissing({0, 9, 1}, PageState::kAbsent), 1u);
  (*memory_)->StopEvents();
  memory_ = absl::CancelledError("dead");
  armer_ = HookArmer(socket_path_, kTimeoutMs);  // its connection goes with it

  UffdGuestMemoryFactory factory(&armer_, &loop_, {});
  memory_ = factory.TakeOver(vm_);
  ASSERT_TRUE(memory_.ok()) << memory_.status();
  PageTable& table = (*memory_)->table();
  EXPECT_EQ(table.Get({0, 3}), PageState::kInstalled);
  EXPECT_EQ(table.Get({0, 4}), PageState::kInstalled);
  EXPECT_EQ(table.Get({0, 9}), PageState::kAbsent);
  EXPECT_EQ(table.missing_pages(), 2 * kMiB / kPage - 3);
  events_.Clear();
  (*memory_)->StartEvents(this);
  ASSERT_TRUE(loop_.RunUntil([&] { return !events_.faults.empty(); }));
  EXPECT_EQ(events_.faults.front(), (PageId{1, 7}));
  EXPECT_EQ((*memory_)->Install({1, 7, 1}, bytes).outcome, InstallOutcome::kDone);
  EXPECT_EQ(target_->ReadLine(kTimeoutMs), "byte 42");
  EXPECT_EQ(target_->Ask("read 0 " + std::to_string(4 * kPage)), "byte 42");
  EXPECT_TRUE((*memory_)->Disarm().ok());
}

TEST_F(HookArmerTest, OnlyTheSameMemoryIsTakenOver) {
  UffdGuestMemoryFactory factory(&armer_, &loop_, {});
  EXPECT_THAT(MessageOf(factory.TakeOverUffd(vm_).status()), HasSubstr("not armed"));
  auto nothing = factory.TakeOver(vm_);
  ASSERT_TRUE(nothing.ok()) << nothing.status();
  EXPECT_EQ(*nothing, nullptr);
  memory_ = Arm();
  ASSERT_TRUE(memory_.ok()) << memory_.status();
  std::swap(vm_.regions[0], vm_.regions[1]);
  EXPECT_THAT(MessageOf(factory.TakeOver(vm_).status()), HasSubstr("another memory"));
  vm_.regions.pop_back();
  EXPECT_THAT(MessageOf(factory.TakeOver(vm_).status()), HasSubstr("2 regions of RAM"));
}

TEST_F(HookArmerTest, NobodyThere) {
  HookArmer nobody(socket_path_ + "-none", kTimeoutMs);
  EXPECT_THAT(MessageOf(nobody.Attach().status()), HasSubstr(socket_path_ + "-none"));
}

}  // namespace
}  // namespace faultline
