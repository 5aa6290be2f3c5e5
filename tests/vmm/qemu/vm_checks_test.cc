// Every refusal that needs no running QEMU: facts in, sentence out.
#include "vmm/qemu/vm_checks.h"

#include <gtest/gtest.h>

#include <functional>

namespace faultline {
namespace {

VmFacts GoodVm() {
  VmFacts facts;
  facts.version = {7, 2, 22};
  facts.version_text = "QEMU 7.2.22";
  facts.status = "running";
  facts.capabilities = {{"x-ignore-shared", false}, {"postcopy-ram", false}, {"multifd", false}};
  facts.blocks = {{"ram", 4096, 32 << 20, 32 << 20, 0}, {"pc.bios", 4096, 1 << 18, 1 << 18, 0}};
  MemoryBackend backend;
  backend.id = "ram";
  backend.type = "memory-backend-file";
  backend.mem_path = "/dev/shm/ram";
  backend.size_bytes = 32 << 20;
  backend.share = true;
  backend.file_system = FileSystem::kTmpfs;
  backend.mount_options = "rw,size=1g";
  facts.backends = {backend};
  facts.network_text = "net0: index=0,type=tap,ifname=tap0\n";
  return facts;
}

VmFacts WaitingVm() {
  VmFacts facts = GoodVm();
  facts.status = "inmigrate";
  return facts;
}

struct Refusal {
  const char* name;
  std::function<void(VmFacts*)> spoil;
  const char* cause;
  const char* mend;
};

class CommonRefusals : public testing::TestWithParam<Refusal> {};

TEST_P(CommonRefusals, NamesCauseAndMendOnBothSides) {
  VmFacts source = GoodVm();
  VmFacts destination = WaitingVm();
  ASSERT_TRUE(CheckSource(source).ok()) << CheckSource(source);
  ASSERT_TRUE(CheckDestination(destination).ok()) << CheckDestination(destination);
  ASSERT_TRUE(CheckFiles(source).ok()) << CheckFiles(source);
  GetParam().spoil(&source);
  GetParam().spoil(&destination);
  for (absl::Status status : {CheckSource(source), CheckDestination(destination)}) {
    if (status.ok()) status = CheckFiles(source);
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_NE(MessageOf(status).find(GetParam().cause), std::string::npos) << status;
    EXPECT_NE(MessageOf(status).find(GetParam().mend), std::string::npos) << status;
  }
}

std::function<void(VmFacts*)> Device(const char* type) {
  return [type](VmFacts* facts) { facts->devices.push_back({"dev0", type}); };
}
std::function<void(VmFacts*)> Capability(const char* name) {
  return [name](VmFacts* facts) { facts->capabilities[name] = true; };
}
std::function<void(VmFacts*)> Backend(const std::function<void(MemoryBackend*)>& spoil) {
  return [spoil](VmFacts* facts) { spoil(&facts->backends[0]); };
}

const Refusal kRefusals[] = {
    {"NotShared", Backend([](MemoryBackend* b) { b->share = false; }), "not shared", "share=on"},
    {"NotFileBacked", Backend([](MemoryBackend* b) { b->type = "memory-backend-ram"; }),
     "memory-backend-ram", "memory-backend-file"},
    {"Memfd", Backend([](MemoryBackend* b) { b->type = "memory-backend-memfd"; }),
     "memory-backend-memfd", "memory-backend-file"},
    {"MemfdNewer",
     [](VmFacts* facts) {
       facts->backends[0].type = "memory-backend-memfd";
       facts->version = {10, 0, 2};
     },
     "QEMU 8.1 and later", "memory-backend-file"},
    {"ReadOnly", Backend([](MemoryBackend* b) { b->readonly = true; }), "read-only", "take"},
    {"NoBackend", [](VmFacts* facts) { facts->backends.clear(); },
     "no RAM in a memory-backend-file", "share=on"},
    {"DiskFile", Backend([](MemoryBackend* b) { b->file_system = FileSystem::kOther; }),
     "disk file system", "tmpfs"},
    {"HugeAlways", Backend([](MemoryBackend* b) { b->mount_options = "rw,huge=always"; }),
     "huge=always", "huge=never"},
    {"HugeWithinSize", Backend([](MemoryBackend* b) { b->mount_options = "rw,huge=within_size"; }),
     "huge=within_size", "huge=never"},
    {"HugeForced", [](VmFacts* facts) { facts->huge_shmem_forced = true; }, "forces huge pages",
     "shmem_enabled"},
    {"BalloonOnHugetlb",
     [](VmFacts* facts) {
       facts->backends[0].file_system = FileSystem::kHugetlbfs;
       facts->devices.push_back({"balloon0", "virtio-balloon-pci"});
     },
     "balloon", "unplug"},
    {"VirtioMemOnHugetlb",
     [](VmFacts* facts) {
       facts->backends[0].file_system = FileSystem::kHugetlbfs;
       facts->devices.push_back({"vm0", "virtio-mem-pci"});
     },
     "virtio-mem", "unplug"},
    {"VhostUserDevice", Device("vhost-user-blk-pci"), "vhost-user", "device_del"},
    {"Vfio", Device("vfio-pci"), "VFIO", "device_del"},
    {"Vdpa", Device("vhost-vdpa-device-pci"), "vDPA", "device_del"},
    {"Ivshmem", Device("ivshmem-plain"), "ivshmem", "device_del"},
    {"VhostUserNet",
     [](VmFacts* facts) {
       facts->network_text += " \\ net0: index=0,type=vhost-user,vhost-user to chr0\n";
     },
     "vhost-user", "tap"},
    {"VdpaNet",
     [](VmFacts* facts) { facts->network_text += " \\ net0: index=0,type=vhost-vdpa,\n"; }, "vDPA",
     "tap"},
    {"VhostUserCrypto", Device("cryptodev-vhost-user"), "vhost-user", "device_del"},
    {"BlockedByQemu",
     [](VmFacts* facts) { facts->blocked_reasons = {"State blocked by non-migratable device"}; },
     "QEMU itself cannot migrate this VM: State blocked", "out of the VM"},
    {"NvmeDriver",
     [](VmFacts* facts) {
       facts->block_drivers = {"raw", "nvme"};
     },
     "'nvme'", "host block device"},
    {"Confidential", [](VmFacts* facts) { facts->confidential = true; }, "SEV, TDX", "cannot"},
    {"PostcopyRam", Capability("postcopy-ram"), "'postcopy-ram' is set", "switch it off"},
    {"Multifd", Capability("multifd"), "'multifd' is set", "switch it off"},
    {"ZeroCopySend", Capability("zero-copy-send"), "'zero-copy-send'", "switch it off"},
    {"MappedRam", Capability("mapped-ram"), "'mapped-ram'", "switch it off"},
    {"BackgroundSnapshot", Capability("background-snapshot"), "'background-snapshot'",
     "switch it off"},
    {"ReturnPath", Capability("return-path"), "'return-path'", "switch it off"},
    {"Tls", [](VmFacts* facts) { facts->tls_creds = "tls0"; }, "'tls-creds'", "clear it"},
    {"Mode", [](VmFacts* facts) { facts->migration_mode = "cpr-reboot"; }, "'mode'", "'normal'"},
    {"NoIgnoreShared", [](VmFacts* facts) { facts->capabilities.erase("x-ignore-shared"); },
     "x-ignore-shared", "7.2"},
    {"TooOld",
     [](VmFacts* facts) {
       facts->version = {6, 2, 0};
     },
     "too old", "7.2"},
    {"ForeignSharedBlock",
     [](VmFacts* facts) {
       facts->blocks.push_back({"ivshmem.bar2", 4096, 1 << 20, 1 << 20, 0});
       ProcessMapping mapping;
       mapping.start = 0x7f0000000000;
       mapping.end = mapping.start + (1 << 20);
       mapping.shared = true;
       mapping.path = "/dev/shm/other";
       facts->mappings = {mapping};
     },
     "'ivshmem.bar2' (/dev/shm/other) out of its stream", "8.1"},
};
INSTANTIATE_TEST_SUITE_P(All, CommonRefusals, testing::ValuesIn(kRefusals),
                         [](const auto& instance) { return instance.param.name; });

TEST(VmChecks, BlocksMatchByIdAndByObjectPath) {
  VmFacts facts = GoodVm();
  facts.blocks[0].name = "/objects/ram";
  auto blocks = SelectBlocks(facts);
  ASSERT_TRUE(blocks.ok()) << blocks.status();
  ASSERT_EQ(blocks->size(), 1u);
  EXPECT_EQ((*blocks)[0].backend.id, "ram");
}

TEST(VmChecks, RamOfAnImpossibleShapeIsRefused) {
  for (uint64_t page_size : {0, 3000, 64 << 20}) {
    VmFacts facts = GoodVm();
    facts.blocks[0].page_size_bytes = page_size;
    EXPECT_TRUE(absl::IsFailedPrecondition(CheckSource(facts)));
    EXPECT_NE(MessageOf(CheckSource(facts)).find("info ramblock"), std::string::npos);
  }
  VmFacts facts = GoodVm();
  facts.blocks.push_back(facts.blocks[0]);
  EXPECT_NE(MessageOf(CheckSource(facts)).find("comes twice"), std::string::npos);
}

TEST(VmChecks, BackendsThatAreNotAttachedDoNotMatter) {
  VmFacts facts = GoodVm();
  MemoryBackend spare;
  spare.id = "spare";
  spare.type = "memory-backend-ram";
  facts.backends.push_back(spare);
  EXPECT_TRUE(CheckSource(facts).ok());
}

TEST(VmChecks, SharedForeignBlocksAreSentByNewerQemu) {
  VmFacts facts = GoodVm();
  facts.version = {8, 1, 0};
  ProcessMapping mapping;
  mapping.end = 1 << 18;
  mapping.shared = true;
  facts.mappings = {mapping};
  EXPECT_TRUE(CheckSource(facts).ok());
}

TEST(VmChecks, BalloonOnTmpfsIsFineAndKnown) {
  VmFacts facts = GoodVm();
  EXPECT_FALSE(GuestMayDiscard(facts));
  facts.devices.push_back({"b", "virtio-balloon-pci"});
  EXPECT_TRUE(GuestMayDiscard(facts));
  EXPECT_TRUE(CheckSource(facts).ok());
  EXPECT_TRUE(CheckFiles(facts).ok());
}

TEST(VmChecks, SourceStates) {
  for (const char* status : {"running", "paused", "prelaunch"}) {
    VmFacts facts = GoodVm();
    facts.status = status;
    facts.migration_status = "cancelled";
    EXPECT_TRUE(CheckSource(facts).ok()) << CheckSource(facts);
  }
  for (const char* status :
       {"inmigrate", "postmigrate", "io-error", "guest-panicked", "shutdown", "finish-migrate"}) {
    VmFacts facts = GoodVm();
    facts.status = status;
    EXPECT_FALSE(CheckSource(facts).ok()) << status;
  }
  VmFacts facts = GoodVm();
  facts.status = "postmigrate";
  facts.migration_status = "completed";
  EXPECT_NE(MessageOf(CheckSource(facts)).find("already been migrated away"), std::string::npos);
}

TEST(VmChecks, MigrationUnderWay) {
  for (const char* status :
       {"setup", "active", "pre-switchover", "postcopy-active", "cancelling"}) {
    VmFacts facts = GoodVm();
    facts.migration_status = status;
    absl::Status refused = CheckSource(facts);
    EXPECT_NE(MessageOf(refused).find("migrate_cancel"), std::string::npos) << refused;
  }
}

TEST(VmChecks, DestinationMustWaitAndBeUnlocked) {
  VmFacts facts = WaitingVm();
  facts.status = "paused";
  EXPECT_NE(MessageOf(CheckDestination(facts)).find("-incoming defer"), std::string::npos);
  facts = WaitingVm();
  facts.migration_status = "setup";  // -incoming tcp:...
  EXPECT_NE(MessageOf(CheckDestination(facts)).find("-incoming defer"), std::string::npos);
  facts = WaitingVm();
  facts.locked_bytes = 64 << 20;
  EXPECT_NE(MessageOf(CheckDestination(facts)).find("mem-lock=on"), std::string::npos);
  facts.locked_bytes = 64 << 10;  // a library's secret keys
  EXPECT_TRUE(CheckDestination(facts).ok());
}

TEST(VmChecks, DisksThatBypassThePageCacheAreDirectIo) {
  VmFacts facts = GoodVm();
  facts.block_drivers = {"raw", "file"};
  EXPECT_FALSE(HasDirectIo(facts));
  facts.direct_nodes = true;
  EXPECT_TRUE(HasDirectIo(facts));
  for (const char* type : {"scsi-block", "scsi-generic"}) {
    VmFacts passed_through = GoodVm();
    passed_through.devices = {{"disk0", type}};
    EXPECT_TRUE(HasDirectIo(passed_through)) << type;
    EXPECT_TRUE(CheckSource(passed_through).ok()) << type;
  }
  for (const char* driver : {"io_uring", "nvme-io_uring"}) {
    VmFacts registered = GoodVm();
    registered.block_drivers = {"raw", driver};
    EXPECT_TRUE(HasDirectIo(registered)) << driver;
  }
  VmFacts emulated = GoodVm();
  emulated.devices = {{"disk0", "scsi-hd"}, {"disk1", "virtio-blk-pci"}};
  EXPECT_FALSE(HasDirectIo(emulated));
}

TEST(VmChecks, WhoWritesUnseenIsNamedAndOnlyPostCopyMovesIt) {
  VmFacts facts = GoodVm();
  facts.devices = {{"balloon0", "virtio-balloon-pci"}};
  EXPECT_EQ(WhyUntrackable(facts), "");
  for (const char* type : {"vhost-scsi-pci", "pvrdma"}) {
    facts.devices = {{"dev7", type}};
    EXPECT_NE(WhyUntrackable(facts).find("'dev7'"), std::string::npos) << type;
    EXPECT_NE(WhyUntrackable(facts).find("--mode postcopy"), std::string::npos) << type;
    EXPECT_TRUE(CheckSource(facts).ok()) << type;
  }
}

}  // namespace
}  // namespace faultline
