// Dirty tracking of another process, which has the hook in it: the contract, and what becomes of
// the protection when either side ends.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <thread>

#include "base/soft_dirty.h"
#include "contract/dirty_tracker_contract.h"
#include "hook/hook_fixture.h"
#include "hook/raw_hook.h"
#include "memory/dirty_tracker_factories.h"
#include "memory/soft_dirty_tracker.h"
#include "memory/vm_flags.h"
#include "memory/wp_tracker.h"

namespace faultline {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr uint64_t kPages = 32;

class TrackedTarget : public HookFixture {
 public:
  TrackedTarget() {
    StartTarget();
    for (const char* name : {"ram0", "ram1"}) {
      std::string path = scratch_.MakeFile(name, kPages * kPage);
      std::string answer =
          target_->Ask("map " + path + " 0 " + std::to_string(kPages * kPage) + " shared");
      int index = 0;
      unsigned long address = 0;
      EXPECT_EQ(sscanf(answer.c_str(), "mapped %d %lu", &index, &address), 2) << answer;
      addresses_.push_back(address);
      files_.emplace_back(open(path.c_str(), O_RDWR | O_CLOEXEC));
      vm_.regions.push_back({.layout = {name, kPages * kPage, kPage}, .file = files_.back().get()});
    }
  }
  void TestBody() override {}

  absl::StatusOr<std::unique_ptr<DirtyTracker>> Open() {
    return HookDirtyTrackerFactory(socket_path_, kTimeoutMs).Open(vm_);
  }
  std::string Ask(const std::string& line) { return target_->Ask(line); }
  void Write(PageId page) {
    EXPECT_EQ(Ask("write " + std::to_string(page.region) + " " +
                  std::to_string(page.index * kPage + 9) + " 7"),
              "written");
  }
  bool IsTracked() const {
    return HasVmFlag(target_->pid(), addresses_[0], "uw") ||
           HasVmFlag(target_->pid(), addresses_[1], "uw");
  }
  bool IsFreeSoon() const {
    return WaitFor(5000, [&] { return !IsTracked(); });
  }

  using HookFixture::Connect;
  using HookFixture::scratch_;

  std::vector<uint64_t> addresses_;
  std::vector<FileDescriptor> files_;
  VmDescription vm_;
};

class HookHarness : public DirtyTrackerHarness {
 public:
  HookHarness() {
    absl::StatusOr<std::unique_ptr<DirtyTracker>> tracker = target_.Open();
    EXPECT_TRUE(tracker.ok()) << tracker.status();
    tracker_ = std::move(*tracker);
  }
  const MemoryLayout& layout() override { return layout_; }
  DirtyTracker& tracker() override { return *tracker_; }
  void DropTracker() override { tracker_.reset(); }
  void Write(PageId page) override { target_.Write(page); }
  void Read(PageId page) override {
    EXPECT_NE(target_.Ask("read " + std::to_string(page.region) + " " +
                          std::to_string(page.index * kPage)),
              "");
  }
  bool IsTracked() override { return target_.IsTracked(); }

 private:
  TrackedTarget target_;
  const MemoryLayout layout_ = target_.vm_.layout();
  std::unique_ptr<DirtyTracker> tracker_;
};

INSTANTIATE_TEST_SUITE_P(All, DirtyTrackerContract,
                         testing::Values(DirtyTrackerCase{
                             "Hook", [] { return std::make_unique<HookHarness>(); }}),
                         [](const auto& tested) { return tested.param.name; });

class HookTrackerTest : public TrackedTarget {};

TEST_F(HookTrackerTest, InspectTellsWhereARegionIsAndLendsFilesOfThatProcess) {
  std::vector<HookRegionRequest> regions = {RegionOf(scratch_.path() + "/ram1"),
                                            RegionOf(scratch_.path() + "/ram0")};
  HookClient client = Connect();
  absl::StatusOr<InspectedRegions> inspected = client.Inspect(regions);
  ASSERT_TRUE(inspected.ok()) << inspected.status();
  EXPECT_EQ(inspected->regions[0].host_address, addresses_[1]);
  EXPECT_EQ(inspected->regions[1].host_address, addresses_[0]);
  Write({0, 3});
  uint64_t entries[8];
  ASSERT_EQ(pread(inspected->pagemap.get(), entries, sizeof(entries),
                  static_cast<off_t>(addresses_[0] / kPage * sizeof(uint64_t))),
            static_cast<ssize_t>(sizeof(entries)));
  EXPECT_NE(entries[3] >> 63, 0u) << "present";
  EXPECT_EQ(pwrite(inspected->clear_refs.get(), "4", 1, 0), 1);
  EXPECT_FALSE(IsTracked());
  EXPECT_TRUE(absl::IsNotFound(client.Untrack()));
}

// The kernel lacks WP_ASYNC, or not; with soft-dirty bits there is another way.
class SoftDirtyHarness : public DirtyTrackerHarness {
 public:
  SoftDirtyHarness() {
    HookClient client = target_.Connect();
    std::vector<HookRegionRequest> requests;
    for (const char* name : {"ram0", "ram1"}) {
      requests.push_back(RegionOf(target_.scratch_.path() + "/" + name));
    }
    absl::StatusOr<InspectedRegions> inspected = client.Inspect(requests);
    EXPECT_TRUE(inspected.ok()) << inspected.status();
    SoftDirtyMemory memory{std::move(inspected->pagemap), std::move(inspected->clear_refs),
                           target_.addresses_};
    auto tracker = SoftDirtyTracker::Make(target_.vm_.regions, std::move(memory));
    EXPECT_TRUE(tracker.ok()) << tracker.status();
    tracker_ = std::move(*tracker);
  }
  const MemoryLayout& layout() override { return layout_; }
  DirtyTracker& tracker() override { return *tracker_; }
  void DropTracker() override { tracker_.reset(); }
  void Write(PageId page) override { target_.Write(page); }
  void Read(PageId page) override {
    EXPECT_NE(target_.Ask("read " + std::to_string(page.region) + " " +
                          std::to_string(page.index * kPage)),
              "");
  }
  bool IsTracked() override { return false; }  // it takes nothing that must be given back

 private:
  TrackedTarget target_;
  const MemoryLayout layout_ = target_.vm_.layout();
  std::unique_ptr<DirtyTracker> tracker_;
};

INSTANTIATE_TEST_SUITE_P(
    SoftDirty, DirtyTrackerContract,
    testing::Values(DirtyTrackerCase{
        "Hook", [] { return std::make_unique<SoftDirtyHarness>(); },
        KernelHasSoftDirty() ? "" : "this kernel has no soft-dirty bits (CONFIG_MEM_SOFT_DIRTY)"}),
    [](const auto& tested) { return tested.param.name; });

// A hook of an earlier release, as far as TRACK goes: it knows HELLO and says that the rest is
// unknown to it.
void ServeAsAnOldHook(int listener) {
  FileDescriptor client(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
  std::vector<uint8_t> bytes(HOOK_REQUEST_BYTES_MAX);
  while (recv(client.get(), bytes.data(), bytes.size(), 0) > 0) {
    HookHeader header;
    memcpy(&header, bytes.data(), sizeof(header));
    const bool hello = header.type == htole16(kHookTypeHello);
    HookHelloReply reply{.version = 1,
                         .version_min = 1,
                         .version_max = 1,
                         .reserved = 0,
                         .process_id = 1,
                         .flags = 0,
                         .release = "0.0.1"};
    header.type |= htole16(HOOK_REPLY_BIT);
    header.length = htole32(sizeof(header) + (hello ? sizeof(reply) : 0));
    header.status = htole32(hello ? kHookStatusOk : kHookStatusUnsupported);
    std::vector<uint8_t> answer(sizeof(header) + sizeof(reply));
    HookSwapHelloReply(&reply);
    memcpy(answer.data(), &header, sizeof(header));
    memcpy(answer.data() + sizeof(header), &reply, sizeof(reply));
    send(client.get(), answer.data(), le32toh(header.length), MSG_NOSIGNAL);
  }
}

TEST_F(HookTrackerTest, AHookThatIsTooOldIsSaidToBeSo) {
  const std::string path = scratch_.path() + "/old";
  FileDescriptor listener(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  ASSERT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(listen(listener.get(), 1), 0);
  std::thread hook([&] { ServeAsAnOldHook(listener.get()); });
  absl::Status status = HookDirtyTrackerFactory(path, kTimeoutMs).Open(vm_).status();
  hook.join();
  EXPECT_TRUE(absl::IsUnimplemented(status)) << status;
  EXPECT_THAT(MessageOf(status), AllOf(HasSubstr("too old (release 0.0.1)"),
                                       HasSubstr("--mode postcopy moves this VM without it")));
}

TEST_F(HookTrackerTest, WithoutAHookTheSentenceSaysWhatIsMissing) {
  absl::Status status =
      HookDirtyTrackerFactory(scratch_.path() + "/none", kTimeoutMs).Open(vm_).status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(MessageOf(status), AllOf(HasSubstr("-plugin"), HasSubstr("--mode postcopy")));
}

TEST_F(HookTrackerTest, TrackingEndsWithTheEngineThatIsKilled) {
  pid_t engine = fork();
  if (engine == 0) {
    auto tracker = Open();
    if (!tracker.ok() || !(*tracker)->Start().ok()) _exit(1);
    for (;;) pause();
  }
  ASSERT_TRUE(WaitFor(5000, [&] { return IsTracked(); }));
  kill(engine, SIGKILL);
  ASSERT_EQ(waitpid(engine, nullptr, 0), engine);
  EXPECT_TRUE(IsFreeSoon());
  Write({0, 3});
  // And the hook serves the next one.
  auto tracker = Open();
  ASSERT_TRUE(tracker.ok()) << tracker.status();
  EXPECT_TRUE((*tracker)->Start().ok());
}

TEST_F(HookTrackerTest, AVmThatEndsIsNoFailureOfStopping) {
  auto tracker = Open();
  ASSERT_TRUE(tracker.ok()) << tracker.status();
  ASSERT_TRUE((*tracker)->Start().ok());
  target_.reset();
  EXPECT_TRUE((*tracker)->Stop().ok());
}

TEST_F(HookTrackerTest, ScansOfAVmThatHasEndedFindNothingOrFail) {
  auto tracker = Open();
  ASSERT_TRUE(tracker.ok()) << tracker.status();
  ASSERT_TRUE((*tracker)->Start().ok());
  Write({0, 1});
  target_.reset();
  PageSet written(vm_.layout());
  const PageRun all{0, 0, kPages};
  absl::Status status = (*tracker)->Scan({&all, 1}, AfterScan::kClean, &written);
  EXPECT_TRUE(!status.ok() || written.empty()) << written.page_count();
}

TEST_F(HookTrackerTest, ARegionOfAnotherVmIsNamedAndNothingIsTracked) {
  std::string path = scratch_.MakeFile("stranger", kMiB);
  files_.emplace_back(open(path.c_str(), O_RDWR | O_CLOEXEC));
  vm_.regions.push_back({.layout = {"stranger", kMiB, kPage}, .file = files_.back().get()});
  absl::Status status = Open().status();
  EXPECT_THAT(MessageOf(status), AllOf(HasSubstr("'stranger'"), HasSubstr("--mode postcopy")));
  EXPECT_FALSE(IsTracked());
}

TEST_F(HookTrackerTest, ArmedMemoryIsNotTrackedAndTheOtherWayRound) {
  std::vector<HookRegionRequest> regions = {RegionOf(scratch_.path() + "/ram0")};
  HookClient client = Connect();
  ASSERT_TRUE(client.Track(regions, DirtyTrackingUffdFeatures()).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(client.Track(regions, 0).status()));
  EXPECT_TRUE(absl::IsAlreadyExists(client.Arm(regions, MakePageState("state"), 0).status()));
  EXPECT_TRUE(client.Untrack().ok());
  EXPECT_TRUE(absl::IsNotFound(client.Untrack()));
  ASSERT_TRUE(client.Arm(regions, MakePageState("state"), 0).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(client.Track(regions, 0).status()));
  EXPECT_TRUE(client.Release().ok());
}

TEST_F(HookTrackerTest, AFeatureThatTheKernelLacksIsNamed) {
  HookClient client = Connect();
  std::vector<HookRegionRequest> regions = {RegionOf(scratch_.path() + "/ram0")};
  absl::Status status = client.Track(regions, uint64_t{1} << 63).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(MessageOf(status), HasSubstr("dirty tracking 6.7"));
  EXPECT_FALSE(IsTracked());
}

// A child has the memory, and neither the protection nor the hook's descriptors.
TEST_F(HookTrackerTest, AForkedChildKeepsNothingTracked) {
  auto tracker = Open();
  ASSERT_TRUE(tracker.ok()) << tracker.status();
  ASSERT_TRUE((*tracker)->Start().ok());
  int child = 0;
  std::string answer = Ask("fork");
  ASSERT_EQ(sscanf(answer.c_str(), "child %d", &child), 1) << answer;
  EXPECT_FALSE(HasVmFlag(child, addresses_[0], "uw"));
  ASSERT_TRUE((*tracker)->Stop().ok());
  EXPECT_FALSE(IsTracked());
  kill(child, SIGKILL);
}

}  // namespace
}  // namespace faultline
