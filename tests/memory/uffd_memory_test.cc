// UffdMemory beyond the contract: crowds, reclaim, events that are none of ours, take-over.
#include "memory/uffd_memory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <random>
#include <set>

#include "base/check.h"
#include "memory/guest_mapping.h"
#include "memory/kernel_abi.h"
#include "memory/uffd_setup.h"

namespace faultline {
namespace {

class Reader : public GuestMemory::Listener {
 public:
  explicit Reader(GuestMemory* memory) : memory_(memory) { memory_->StartEvents(this); }
  void OnEventsReady() override { EXPECT_TRUE(memory_->ReadEvents(&events).ok()); }

  MemoryEvents events;

 private:
  GuestMemory* const memory_;
};

TEST(UffdMemory, ReadsACrowdOfFaultsAtOnce) {
  UffdHarness harness(RamKind::kTmpfs);
  // More than one read of the descriptor takes.
  constexpr int kTouches = 200;
  std::vector<std::future<std::vector<std::byte>>> touches;
  for (int i = 0; i < kTouches; ++i) {
    touches.push_back(harness.Touch({0, static_cast<uint64_t>(i) % kTestRegionPages}));
  }
  // All of them are waiting before the first is read.
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  MemoryEvents events;
  ASSERT_TRUE(harness.memory().ReadEvents(&events).ok());
  Reader reader(&harness.memory());
  ASSERT_TRUE(harness.loop().RunUntil(
      [&] { return events.faults.size() + reader.events.faults.size() >= kTouches; }));
  EXPECT_GT(events.faults.size(), 128u);
  std::set<PageId> pages(events.faults.begin(), events.faults.end());
  EXPECT_EQ(pages.size(), kTestRegionPages);
  EXPECT_EQ(harness.memory().InstallZeros({0, 0, kTestRegionPages}).outcome, InstallOutcome::kDone);
  for (auto& touched : touches) {
    EXPECT_EQ(touched.wait_for(std::chrono::seconds(10)), std::future_status::ready);
  }
  harness.memory().StopEvents();
}

TEST(UffdMemory, ReclaimOfInstalledPagesIsNoEvent) {
  UffdHarness harness(RamKind::kTmpfs);
  std::vector<std::byte> bytes(kTestRegionPages * 4096, std::byte{5});
  ASSERT_EQ(harness.memory().Install({0, 0, kTestRegionPages}, bytes).outcome,
            InstallOutcome::kDone);
  Reader reader(&harness.memory());
  ASSERT_EQ(madvise(harness.region(0).at(0), bytes.size(), MADV_PAGEOUT), 0);
  for (uint64_t page = 0; page < kTestRegionPages; ++page) {
    auto touched = harness.Touch({0, page});
    ASSERT_EQ(touched.wait_for(std::chrono::seconds(10)), std::future_status::ready);
    EXPECT_EQ(touched.get()[77], std::byte{5});
  }
  harness.loop().RunFor(20);
  EXPECT_TRUE(reader.events.faults.empty());
  EXPECT_TRUE(reader.events.discards.empty());
  harness.memory().StopEvents();
}

// Many threads install the same pages, some twice, while the guest reads them: nobody sees a byte
// that was not sent for that page, and everyone goes on.
TEST(UffdMemory, GuestNeverSeesATornOrWrongPage) {
  UffdHarness harness(RamKind::kTmpfs);
  GuestMemory& memory = harness.memory();
  auto value_of = [](uint64_t page) { return static_cast<std::byte>(page + 1); };
  std::vector<std::future<std::vector<std::byte>>> touches;
  for (uint64_t page = 0; page < kTestRegionPages; ++page) {
    touches.push_back(harness.Touch({0, page}));
  }
  std::vector<std::thread> installers;
  for (uint64_t seed = 0; seed < 3; ++seed) {
    installers.emplace_back([&, seed] {
      std::mt19937_64 random(seed);
      for (uint64_t step = 0; step < 4 * kTestRegionPages; ++step) {
        // The last rounds make sure that all pages are there.
        uint64_t page =
            step < 3 * kTestRegionPages ? random() % kTestRegionPages : step % kTestRegionPages;
        std::vector<std::byte> bytes(4096, value_of(page));
        InstallOutcome outcome = memory.Install({0, page, 1}, bytes).outcome;
        EXPECT_TRUE(outcome == InstallOutcome::kDone || outcome == InstallOutcome::kPresent);
      }
    });
  }
  for (std::thread& installer : installers) installer.join();
  for (uint64_t page = 0; page < kTestRegionPages; ++page) {
    ASSERT_EQ(touches[page].wait_for(std::chrono::seconds(10)), std::future_status::ready);
    EXPECT_EQ(touches[page].get(), std::vector<std::byte>(4096, value_of(page)));
  }
}

// One mapping of three regions' size, of which only the outer two are ours.
class Neighbours : public testing::Test {
 protected:
  Neighbours() : all_(RamKind::kAnonymous, "all", 3 * kPages) {
    uffd_ = *MakeUffd();
    EXPECT_TRUE(SetUpUffd(uffd_.get(), PostCopyUffdFeatures() | UFFD_FEATURE_EVENT_UNMAP |
                                           UFFD_FEATURE_EVENT_REMAP)
                    .ok());
    uint64_t ioctls = *RegisterMissing(uffd_.get(), AddressOf(0), 3 * kPages * 4096, "all");
    ArmedMemory armed{*uffd_.Duplicate(),
                      {{AddressOf(2 * kPages), ioctls}, {AddressOf(0), ioctls}}};
    std::vector<RamRegion> regions(2);
    regions[0].layout = {"last", kPages * 4096, 4096};
    regions[1].layout = {"first", kPages * 4096, 4096};
    MemoryLayout layout = {regions[0].layout, regions[1].layout};
    memory_ = *UffdMemory::Make(regions, std::move(armed), *PageStateMemfd::Create(layout), &loop_,
                                nullptr);
  }
  ~Neighbours() override {
    for (std::thread& thread : threads_) thread.join();
    // While the userfaultfd lives, unmapping would wait for its event to be read, here.
    if (memory_ != nullptr) memory_->Disarm().IgnoreError();
  }
  static constexpr uint64_t kPages = 16;
  uint64_t AddressOf(uint64_t page) { return reinterpret_cast<uint64_t>(all_.at(page)); }
  void InThread(std::function<void()> work) { threads_.emplace_back(std::move(work)); }

  PollLoop loop_;
  GuestRegion all_;
  FileDescriptor uffd_;
  std::unique_ptr<UffdMemory> memory_;
  std::vector<std::thread> threads_;
};

TEST_F(Neighbours, EventsAreCutToOurRegions) {
  Reader reader(memory_.get());
  InThread([&] { madvise(all_.at(0), 3 * kPages * 4096, MADV_DONTNEED); });
  ASSERT_TRUE(loop_.RunUntil([&] { return !reader.events.discards.empty(); }));
  EXPECT_EQ(reader.events.discards, (std::vector<PageRun>{{1, 0, kPages}, {0, 0, kPages}}));
  reader.events.Clear();
  InThread([&] { madvise(all_.at(kPages - 2), 8192 + 4096, MADV_DONTNEED); });
  ASSERT_TRUE(loop_.RunUntil([&] { return !reader.events.discards.empty(); }));
  EXPECT_EQ(reader.events.discards, (std::vector<PageRun>{{1, kPages - 2, 2}}));
  reader.events.Clear();
  // A fault and a discard between our regions.
  InThread([&] { madvise(all_.at(kPages), 4096, MADV_DONTNEED); });
  InThread([&] { static_cast<void>(*const_cast<volatile std::byte*>(all_.at(kPages + 3))); });
  loop_.RunFor(50);
  EXPECT_TRUE(reader.events.discards.empty());
  EXPECT_TRUE(reader.events.faults.empty());
  uffdio_range rest{.start = AddressOf(kPages), .len = kPages * 4096};
  EXPECT_EQ(ioctl(uffd_.get(), UFFDIO_UNREGISTER, &rest), 0);
  memory_->StopEvents();
}

TEST_F(Neighbours, UnmappingIsADiscardAndEndsInstalling) {
  Reader reader(memory_.get());
  InThread([&] { munmap(all_.at(0), 4 * 4096); });
  ASSERT_TRUE(loop_.RunUntil([&] { return !reader.events.discards.empty(); }));
  EXPECT_EQ(reader.events.discards, (std::vector<PageRun>{{1, 0, 4}}));
  threads_.back().join();
  threads_.pop_back();
  EXPECT_EQ(memory_->InstallZeros({1, 0, 1}).outcome, InstallOutcome::kGone);
  EXPECT_EQ(memory_->InstallZeros({1, 4, 1}).outcome, InstallOutcome::kDone);
  memory_->StopEvents();
}

TEST_F(Neighbours, MovingMemoryIsAnError) {
  void* room = mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(room, MAP_FAILED);
  std::atomic<bool> moved = false;
  InThread([&] {
    mremap(all_.at(2), 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, room);
    moved = true;
  });
  // The move waits until all its events have been read: one of them says so, one that the old place
  // is unmapped.
  absl::Status refused;
  ASSERT_TRUE(loop_.RunUntil([&] {
    MemoryEvents events;
    absl::Status status = memory_->ReadEvents(&events);
    if (!status.ok()) refused = status;
    return moved.load();
  }));
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(MessageOf(refused).find("moved 4096 bytes"), std::string::npos);
  // As in the destructor.
  memory_->Disarm().IgnoreError();
  memory_.reset();
  uffd_.Reset();
  munmap(room, 4096);
}

// In a process of its own, because what it leaves can never be undone there.
TEST(UffdMemory, EndingWithPagesMissingNeverMakesThemZeros) {
  auto end_with_a_page_missing = [] {
    PollLoop loop;
    GuestRegion region(RamKind::kAnonymous, "ram", 4);
    RamRegion ram;
    ram.layout = {"ram", 4 * 4096, 4096};
    FileDescriptor uffd = *MakeUffd();
    if (!SetUpUffd(uffd.get(), PostCopyUffdFeatures()).ok()) std::_Exit(2);
    uint64_t address = reinterpret_cast<uint64_t>(region.at(0));
    uint64_t ioctls = *RegisterMissing(uffd.get(), address, 4 * 4096, "ram");
    std::unique_ptr<UffdMemory> memory =
        *UffdMemory::Make({&ram, 1}, ArmedMemory{std::move(uffd), {{address, ioctls}}},
                          *PageStateMemfd::Create({ram.layout}), &loop, nullptr);
    std::atomic<bool> touched = false;
    std::thread guest([&] {
      static_cast<void>(*const_cast<volatile std::byte*>(region.at(1)));
      touched = true;
    });
    memory.reset();
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    std::_Exit(touched ? 1 : 0);
  };
  EXPECT_EXIT(end_with_a_page_missing(), testing::ExitedWithCode(0), "");
}

TEST(UffdMemory, InstallIntoAnEndedProcessIsGone) {
  auto sockets = MakeSocketPair();
  ASSERT_TRUE(sockets.ok());
  GuestRegion region(RamKind::kMemfd, "ram", 8);
  // The child makes the userfaultfd of its own memory and this process takes it (pidfd_getfd would
  // do the same as a socket's SCM_RIGHTS).
  pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    FileDescriptor uffd = *MakeUffd();
    if (!SetUpUffd(uffd.get(), PostCopyUffdFeatures()).ok()) _exit(1);
    uint64_t report[2] = {static_cast<uint64_t>(uffd.get()),
                          *RegisterMissing(uffd.get(), region.ram().host_address, 8 * 4096, "ram")};
    if (write(sockets->second.get(), report, sizeof(report)) != sizeof(report)) _exit(1);
    pause();
    _exit(0);
  }
  uint64_t report[2];
  ASSERT_EQ(read(sockets->first.get(), report, sizeof(report)), ssize_t{sizeof(report)});
  FileDescriptor pidfd(static_cast<int>(syscall(SYS_pidfd_open, child, 0)));
  FileDescriptor uffd(
      static_cast<int>(syscall(SYS_pidfd_getfd, pidfd.get(), static_cast<int>(report[0]), 0)));
  ASSERT_TRUE(uffd.valid());
  PollLoop loop;
  std::vector<RamRegion> regions = {region.ram()};
  ArmedMemory armed{std::move(uffd), {{region.ram().host_address, report[1]}}};
  auto memory = UffdMemory::Make(regions, std::move(armed),
                                 *PageStateMemfd::Create({region.ram().layout}), &loop, nullptr);
  ASSERT_TRUE(memory.ok()) << memory.status();
  std::vector<std::byte> bytes(4096, std::byte{9});
  // Every ioctl works from outside the process.
  EXPECT_EQ((*memory)->Install({0, 2, 1}, bytes).outcome, InstallOutcome::kDone);
  kill(child, SIGKILL);
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  InstallResult result = (*memory)->Install({0, 3, 1}, bytes);
  EXPECT_EQ(result.outcome, InstallOutcome::kGone);
  EXPECT_EQ(result.error_number, ESRCH);
}

// The other process was told, and does not say so in time.
class SlowArmer final : public LocalArmer {
 public:
  absl::Status Release() override { return absl::DeadlineExceededError("no answer within 5 s"); }
};

// QEMU may be stopped just then: its memory is let go all the same, from here.
TEST(UffdMemory, DisarmingNeedsNoAnswerOfTheOtherProcess) {
  GuestRegion region(RamKind::kTmpfs, "ram", kTestRegionPages);
  const std::vector<RamRegion> regions = {region.ram()};
  SlowArmer armer;
  PageStateMemfd page_state = *PageStateMemfd::Create({region.ram().layout});
  ArmedMemory armed = *armer.Arm(regions, page_state.memfd(), PostCopyUffdFeatures());
  FileDescriptor uffd = *armed.uffd.Duplicate();
  PollLoop loop;
  auto memory = *UffdMemory::Make(regions, std::move(armed), std::move(page_state), &loop, &armer);
  const absl::StatusOr<std::string> let_go = memory->Disarm();
  ASSERT_TRUE(let_go.ok()) << let_go.status();
  EXPECT_NE(let_go->find("no answer within 5 s"), std::string::npos) << *let_go;
  EXPECT_EQ(*region.at(3), std::byte{0}) << "a hole, while a descriptor is open still";
}

// Neither way: who touches a hole waits.
TEST(UffdMemory, DisarmingFailsWhereTheMemoryCannotBeLetGo) {
  GuestRegion region(RamKind::kTmpfs, "ram", kTestRegionPages);
  const std::vector<RamRegion> regions = {region.ram()};
  SlowArmer armer;
  PageStateMemfd page_state = *PageStateMemfd::Create({region.ram().layout});
  ArmedMemory armed = *armer.Arm(regions, page_state.memfd(), PostCopyUffdFeatures());
  armed.uffd = FileDescriptor(open("/dev/null", O_RDWR | O_CLOEXEC));
  PollLoop loop;
  auto memory = *UffdMemory::Make(regions, std::move(armed), std::move(page_state), &loop, &armer);
  EXPECT_TRUE(absl::IsDeadlineExceeded(memory->Disarm().status()));
}

TEST(UffdMemory, NoHugePageLeftIsNoSpace) {
  HugePagePool pool(4);
  ASSERT_TRUE(pool.enough());
  // Mapped without a reservation, and more of it than the pool has.
  GuestRegion region(RamKind::kHugetlb, "ram", 2);
  uint64_t free_pages = 0;
  std::ifstream("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages") >> free_pages;
  uint64_t pages = free_pages + 2;
  ASSERT_EQ(ftruncate(region.ram().file, static_cast<off_t>(pages * kHugePageBytes)), 0);
  void* base = mmap(nullptr, pages * kHugePageBytes, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_NORESERVE, region.ram().file, 0);
  ASSERT_NE(base, MAP_FAILED);
  RamRegion ram = region.ram();
  ram.layout.size_bytes = pages * kHugePageBytes;
  ram.host_address = reinterpret_cast<uint64_t>(base);
  LocalArmer armer;
  auto page_state = PageStateMemfd::Create({ram.layout});
  std::vector<RamRegion> regions = {ram};
  auto armed = armer.Arm(regions, page_state->memfd(), PostCopyUffdFeatures());
  ASSERT_TRUE(armed.ok()) << armed.status();
  PollLoop loop;
  auto memory =
      UffdMemory::Make(regions, *std::move(armed), *std::move(page_state), &loop, nullptr);
  ASSERT_TRUE(memory.ok()) << memory.status();
  InstallResult result = (*memory)->InstallZeros({0, 0, pages});
  EXPECT_EQ(result.outcome, InstallOutcome::kNoSpace);
  EXPECT_GE(result.pages, free_pages - 2);
  EXPECT_LT(result.pages, pages);
  // Room appears: it goes on from where it stopped.
  ASSERT_TRUE((*memory)->Punch({0, 0, 1}).ok());
  EXPECT_EQ((*memory)->InstallZeros({0, result.pages, 1}).outcome, InstallOutcome::kDone);
  EXPECT_TRUE((*memory)->Disarm().ok());
  munmap(base, pages * kHugePageBytes);
}

// Huge pages that are claimed by mappings and files and not taken yet.
uint64_t ClaimedHugePages() {
  uint64_t pages = 0;
  std::ifstream("/sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages") >> pages;
  return pages;
}

TEST(UffdMemory, HugePagesThatAreMissingAgainAreStillTheVms) {
  UffdHarness harness(RamKind::kHugetlb);
  const uint64_t claimed = ClaimedHugePages();
  std::vector<std::byte> bytes(3 * kHugePageBytes, std::byte{5});
  ASSERT_EQ(harness.memory().Install({0, 0, 3}, bytes).outcome, InstallOutcome::kDone);
  EXPECT_EQ(ClaimedHugePages(), claimed - 3);
  ASSERT_TRUE(harness.memory().table().ChangeMissing({0, 0, 3}, PageState::kInstalled) == 3);
  absl::Status status = harness.memory().MakeMissing({0, 1, 2});
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(ClaimedHugePages(), claimed - 1);
  bytes.resize(kHugePageBytes);
  status = harness.memory().Overwrite({0, 0, 1}, bytes);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(ClaimedHugePages(), claimed - 1);
}

}  // namespace
}  // namespace faultline
