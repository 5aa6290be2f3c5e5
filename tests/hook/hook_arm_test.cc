// Arming, serving, taking over and releasing memory, against the real kernel and a process that has
// the hook preloaded.
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/text.h"
#include "hook/hook_fixture.h"
#include "hook/raw_hook.h"

namespace faultline {
namespace {

class HookArmTest : public HookFixture {
 protected:
  HookArmTest() { StartTarget(); }

  absl::StatusOr<ArmedRegions> Arm(HookClient& client,
                                   const std::vector<HookRegionRequest>& regions,
                                   uint64_t features = 0) {
    return client.Arm(regions, MakePageState("state"), features);
  }

  // The VmFlags of the target's mapping that begins at `address`.
  std::string VmFlags(uint64_t address) const {
    std::ifstream smaps("/proc/" + std::to_string(target_->pid()) + "/smaps");
    char start[32];
    snprintf(start, sizeof(start), "%lx-", static_cast<unsigned long>(address));
    bool inside = false;
    for (std::string line; std::getline(smaps, line);) {
      if (line.rfind(start, 0) == 0) inside = true;
      if (inside && line.rfind("VmFlags:", 0) == 0) return line + " ";
    }
    return "";
  }

  // Each page of the target is `value` once this has served its one fault.
  void ExpectFaultServed(const ArmedRegions& armed, size_t index, uint64_t offset, uint8_t value) {
    const ArmedRegion& region = armed.regions[index];
    target_->Write("read " + std::to_string(index) + " " + std::to_string(offset));
    std::optional<uint64_t> fault = NextFault(armed.uffd, kTimeoutMs);
    ASSERT_TRUE(fault.has_value());
    EXPECT_EQ(*fault / region.region.page_size_bytes,
              (region.host_address + offset) / region.region.page_size_bytes);
    EXPECT_EQ(InstallPage(armed.uffd, *fault, region.region.page_size_bytes, value), 0);
    EXPECT_EQ(target_->ReadLine(kTimeoutMs), "byte " + std::to_string(value));
  }
};

TEST_F(HookArmTest, ServesAFaultThroughThePassedDescriptor) {
  HookRegionRequest region = MapFile("ram", kMiB);
  HookClient client = Connect();
  EXPECT_FALSE(client.info().armed);
  absl::StatusOr<ArmedRegions> armed = Arm(client, {region}, UFFD_FEATURE_MISSING_SHMEM);
  ASSERT_TRUE(armed.ok()) << armed.status();
  ASSERT_EQ(armed->regions.size(), 1u);
  EXPECT_EQ(armed->regions[0].region.name, "ram");
  EXPECT_EQ(armed->regions[0].region.size_bytes, kMiB);
  EXPECT_NE(armed->regions[0].ioctls & (uint64_t{1} << _UFFDIO_COPY), 0u);
  EXPECT_NE(armed->features & UFFD_FEATURE_MISSING_SHMEM, 0u);
  EXPECT_NE(fcntl(armed->uffd.get(), F_GETFL) & O_NONBLOCK, 0);
  EXPECT_NE(fcntl(armed->uffd.get(), F_GETFD) & FD_CLOEXEC, 0);
  ExpectFaultServed(*armed, 0, 5 * kPage + 3, 42);
}

TEST_F(HookArmTest, FindsSeveralRegionsAndSplitMappings) {
  HookRegionRequest first = MapFile("first", kMiB);
  HookRegionRequest second = MapFile("second", 2 * kMiB);
  ASSERT_EQ(target_->Ask("split 1 65536 131072"), "split");
  HookClient client = Connect();
  absl::StatusOr<ArmedRegions> armed = Arm(client, {first, second});
  ASSERT_TRUE(armed.ok()) << armed.status();
  ASSERT_EQ(armed->regions.size(), 2u);
  EXPECT_EQ(armed->regions[1].region.inode, second.inode);
  ExpectFaultServed(*armed, 0, 0, 1);
  for (uint64_t offset : {uint64_t{0}, uint64_t{65536}, uint64_t{196608}, 2 * kMiB - 1}) {
    ExpectFaultServed(*armed, 1, offset, 2);
  }
}

TEST_F(HookArmTest, FindsAPartOfAFileByItsOffset) {
  std::string path = scratch_.MakeFile("ram", 4 * kMiB);
  Map(path, kMiB, 2 * kMiB, "shared");
  HookRegionRequest region = RegionOf(path);
  region.file_offset_bytes = kMiB;
  region.size_bytes = 2 * kMiB;
  HookClient client = Connect();
  absl::StatusOr<ArmedRegions> armed = Arm(client, {region});
  ASSERT_TRUE(armed.ok()) << armed.status();
  ExpectFaultServed(*armed, 0, kMiB, 9);
}

// The target made the memfd itself: only its own descriptor names the file.
HookRegionRequest MapMemfd(ChildProcess& target, const std::string& kind, uint64_t size_bytes) {
  std::string answer = target.Ask("map " + kind + " 0 " + std::to_string(size_bytes) + " shared");
  int index = 0;
  int fd = 0;
  unsigned long address = 0;
  if (sscanf(answer.c_str(), "mapped %d %lu %d", &index, &address, &fd) != 3) return {};
  HookRegionRequest region =
      RegionOf("/proc/" + std::to_string(target.pid()) + "/fd/" + std::to_string(fd));
  region.size_bytes = size_bytes;
  return region;
}

TEST_F(HookArmTest, ArmsAMemfd) {
  HookRegionRequest region = MapMemfd(*target_, "memfd", kMiB);
  HookClient client = Connect();
  absl::StatusOr<ArmedRegions> armed = Arm(client, {region});
  ASSERT_TRUE(armed.ok()) << armed.status();
  ExpectFaultServed(*armed, 0, 3 * kPage, 7);
}

// Adds huge pages for a test and takes them away again.
class HugePages {
 public:
  explicit HugePages(int count) : count_(count) { Add(count_); }
  ~HugePages() { Add(-count_); }

 private:
  static void Add(int count) {
    const char* path = "/proc/sys/vm/nr_hugepages";
    int now = atoi(ReadTextFile(path).value_or("0").c_str());
    std::ofstream(path) << now + count;
  }
  int count_;
};

TEST_F(HookArmTest, ArmsHugetlbMemory) {
  HugePages pages(4);
  HookRegionRequest region = MapMemfd(*target_, "hugetlb", 4 * kMiB);
  ASSERT_EQ(region.page_size_bytes, 2 * kMiB) << "no huge pages could be had";
  HookClient client = Connect();
  absl::StatusOr<ArmedRegions> armed = Arm(client, {region}, UFFD_FEATURE_MISSING_HUGETLBFS);
  ASSERT_TRUE(armed.ok()) << armed.status();
  ExpectFaultServed(*armed, 0, 3 * kMiB, 5);
  target_.reset();
}

TEST_F(HookArmTest, TurnsHugePagesOffWhileArmed) {
  HookRegionRequest region = MapFile("ram", 4 * kMiB);
  HookClient client = Connect();
  absl::StatusOr<ArmedRegions> armed = Arm(client, {region});
  ASSERT_TRUE(armed.ok()) << armed.status();
  uint64_t address = armed->regions[0].host_address;
  EXPECT_NE(VmFlags(address).find(" nh "), std::string::npos) << VmFlags(address);
  EXPECT_NE(VmFlags(address).find(" um "), std::string::npos) << VmFlags(address);
  ASSERT_TRUE(client.Release().ok());
  EXPECT_NE(VmFlags(address).find(" hg "), std::string::npos) << VmFlags(address);
  EXPECT_EQ(VmFlags(address).find(" um "), std::string::npos) << VmFlags(address);
}

TEST_F(HookArmTest, FreezesWhenTheEngineDiesAndTheNextOneTakesOver) {
  HookRegionRequest region = MapFile("ram", kMiB);
  {
    HookClient first = Connect();
    absl::StatusOr<ArmedRegions> armed =
        first.Arm(std::vector{region}, MakePageState("what has arrived"), 0);
    ASSERT_TRUE(armed.ok()) << armed.status();
    target_->Write("read 0 8192");
    // The fault has been read, then its reader dies: only a wake makes it appear again.
    ASSERT_TRUE(NextFault(armed->uffd, kTimeoutMs).has_value());
  }
  EXPECT_EQ(target_->ReadLine(300), std::nullopt) << "the page must stay missing, not turn zero";

  HookClient second = Connect();
  EXPECT_TRUE(second.info().armed);
  absl::StatusOr<ArmedRegions> taken = second.Take();
  ASSERT_TRUE(taken.ok()) << taken.status();
  ASSERT_EQ(taken->regions.size(), 1u);
  EXPECT_EQ(taken->regions[0].region.inode, region.inode);
  EXPECT_EQ(taken->regions[0].region.device, region.device);
  EXPECT_EQ(taken->regions[0].region.size_bytes, region.size_bytes);
  char text[32] = {};
  EXPECT_EQ(pread(taken->page_state.get(), text, sizeof(text), 0), 16);
  EXPECT_STREQ(text, "what has arrived");

  WakeRegion(taken->uffd, taken->regions[0]);
  std::optional<uint64_t> fault = NextFault(taken->uffd, kTimeoutMs);
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(InstallPage(taken->uffd, *fault, kPage, 77), 0);
  EXPECT_EQ(target_->ReadLine(kTimeoutMs), "byte 77");
}

TEST_F(HookArmTest, ReleaseDisarmsAndAllowsTheNextArm) {
  HookRegionRequest region = MapFile("ram", kMiB);
  HookClient client = Connect();
  absl::StatusOr<ArmedRegions> armed = Arm(client, {region});
  ASSERT_TRUE(armed.ok()) << armed.status();
  ASSERT_TRUE(client.Release().ok());
  EXPECT_EQ(target_->Ask("read 0 0"), "byte 0") << "unregistered while the test holds the fd";
  absl::StatusOr<ArmedRegions> again = Arm(client, {region});
  ASSERT_TRUE(again.ok()) << again.status();
  ExpectFaultServed(*again, 0, kPage, 4);
}

TEST_F(HookArmTest, RefusesASecondArmAndAnEmptyTake) {
  HookRegionRequest region = MapFile("ram", kMiB);
  HookClient client = Connect();
  EXPECT_EQ(client.Take().status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(client.Release().code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(Arm(client, {region}).ok());
  absl::Status again = Arm(client, {region}).status();
  EXPECT_EQ(again.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_NE(MessageOf(again).find("take over"), std::string::npos) << again;
  EXPECT_TRUE(client.Ping().ok());
}

// Each refusal names the region, and leaves nothing behind: the good region can be armed after it.
TEST_F(HookArmTest, RefusesRegionsThatItCannotCover) {
  HookRegionRequest good = MapFile("good", kMiB);
  HookClient client = Connect();
  auto refuse = [&](const HookRegionRequest& bad, absl::StatusCode code, const char* words) {
    absl::Status status = Arm(client, {good, bad}).status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_NE(MessageOf(status).find("'" + bad.name + "'"), std::string::npos) << status;
    EXPECT_NE(MessageOf(status).find(words), std::string::npos) << status;
  };
  HookRegionRequest absent = RegionOf(scratch_.MakeFile("absent", kMiB));
  absent.name = "absent";
  refuse(absent, absl::StatusCode::kNotFound, "not mapped");
  refuse(MapFile("private", kMiB, "private"), absl::StatusCode::kFailedPrecondition, "share=on");

  HookRegionRequest longer = MapFile("longer", kMiB);
  longer.size_bytes = 2 * kMiB;
  refuse(longer, absl::StatusCode::kFailedPrecondition, "not mapped whole");
  HookRegionRequest twice = MapFile("twice", kMiB);
  Map(scratch_.path() + "/twice", 0, kMiB, "shared");
  refuse(twice, absl::StatusCode::kFailedPrecondition, "more than once");

  absl::StatusOr<ArmedRegions> armed = Arm(client, {good});
  ASSERT_TRUE(armed.ok()) << armed.status();
  ExpectFaultServed(*armed, 0, 0, 3);
}

TEST_F(HookArmTest, RefusesAFileOnADisk) {
  std::string path = std::filesystem::temp_directory_path() / "faultline-hook-disk-file";
  { std::ofstream(path) << std::string(kPage, 'x'); }
  if (RegionOf(path).device == RegionOf(scratch_.MakeFile("x", kPage)).device) {
    GTEST_SKIP() << "the temporary directory is a tmpfs here";
  }
  Map(path, 0, kPage, "shared");
  HookRegionRequest region = RegionOf(path);
  HookClient client = Connect();
  absl::Status status = Arm(client, {region}).status();
  std::filesystem::remove(path);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(MessageOf(status).find("tmpfs or hugetlbfs"), std::string::npos) << status;
}

TEST_F(HookArmTest, NamesAMissingKernelFeature) {
  HookRegionRequest region = MapFile("ram", kMiB);
  HookClient client = Connect();
  absl::Status status = Arm(client, {region}, uint64_t{1} << 62).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(MessageOf(status).find("lacks a userfaultfd feature"), std::string::npos) << status;
  EXPECT_TRUE(Arm(client, {region}).ok());
}

// The hook's process has no right to make a userfaultfd, as an ordinary QEMU has not.
TEST_F(HookArmTest, UsesThePassedDeviceWhereTheProcessHasNoRight) {
  if (ReadTextFile("/proc/sys/vm/unprivileged_userfaultfd").value_or("0")[0] == '1') {
    GTEST_SKIP() << "vm.unprivileged_userfaultfd is 1 here";
  }
  HookRegionRequest region = MapFile("ram", kMiB);
  ASSERT_EQ(target_->Ask("setuid 65534"), "user");
  {
    RawHook raw(socket_path_);
    ASSERT_TRUE(raw.Hello(1, 1).has_value());
    HookRegion wire{.device_major = major(region.device),
                    .device_minor = minor(region.device),
                    .inode = region.inode,
                    .file_offset = 0,
                    .size = kMiB,
                    .page_size = kPage,
                    .reserved = 0};
    FileDescriptor state = MakePageState("");
    int fds[] = {state.get()};
    std::optional<HookHeader> answer = raw.Ask(MakeArm(0, 0, {wire}), fds);
    ASSERT_TRUE(answer.has_value());
    EXPECT_EQ(answer->status, uint32_t{kHookStatusNotPermitted});
    EXPECT_EQ(answer->error_number, uint32_t{EPERM});
  }
  HookClient client = Connect();
  absl::StatusOr<ArmedRegions> armed = Arm(client, {region});
  ASSERT_TRUE(armed.ok()) << armed.status();
  ExpectFaultServed(*armed, 0, kPage, 11);
}

}  // namespace
}  // namespace faultline
