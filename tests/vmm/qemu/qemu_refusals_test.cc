// Wrong set-ups with stock QEMU: each is refused at Prepare with its sentence, and the VM runs on.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "vmm/qemu/driver_fixture.h"

namespace faultline {
namespace {

class QemuRefusals : public testing::TestWithParam<std::string> {
 protected:
  QemuRefusals() : loop_("control") { loop_.StartThread(); }

  std::unique_ptr<QemuProcess> Start(QemuTestOptions options) {
    options.binary = GetParam();
    auto qemu = QemuProcess::Start(options);
    EXPECT_TRUE(qemu.ok()) << qemu.status();
    return qemu.ok() ? std::move(*qemu) : nullptr;
  }

  absl::StatusOr<VmDescription> PrepareSource(const QemuProcess& qemu) {
    SourceHandle source(&loop_, {qemu.qmp_path(), ""});
    auto vm = source.Prepare();
    absl::Status back = source.Rollback();
    EXPECT_TRUE(back.ok()) << back;
    return vm;
  }

  // Starts a source, expects its refusal with both texts, and that the VM runs on.
  void ExpectRefusal(const QemuTestOptions& options, const std::string& cause,
                     const std::string& mend, const std::function<void(Inspector*)>& spoil = {}) {
    auto qemu = Start(options);
    ASSERT_NE(qemu, nullptr);
    Inspector inspector(*qemu);
    if (spoil) spoil(&inspector);
    auto vm = PrepareSource(*qemu);
    ASSERT_FALSE(vm.ok());
    EXPECT_NE(MessageOf(vm.status()).find(cause), std::string::npos) << vm.status();
    EXPECT_NE(MessageOf(vm.status()).find(mend), std::string::npos) << vm.status();
    EXPECT_EQ(inspector.Status(), options.incoming ? "inmigrate" : "running");
  }

  Loop loop_;
};

std::vector<std::string> Backend(const std::string& backend) {
  return {"-m", "32M", "-object", backend, "-machine", "pc,memory-backend=ram"};
}

TEST_P(QemuRefusals, PlainRam) {
  ExpectRefusal({.memory_arguments = {"-m", "32M", "-machine", "pc"}}, "memory-backend-ram",
                "memory-backend-file");
}

TEST_P(QemuRefusals, PrivateFile) {
  ExpectRefusal({.memory_arguments =
                     Backend("memory-backend-file,id=ram,size=32M,mem-path=/dev/shm,share=off")},
                "not shared", "share=on");
}

TEST_P(QemuRefusals, Memfd) {
  ExpectRefusal({.memory_arguments = Backend("memory-backend-memfd,id=ram,size=32M,share=on")},
                "memory-backend-memfd", "memory-backend-file");
}

TEST_P(QemuRefusals, FileOnADisk) {
  std::string path = "/var/tmp/faultline-refusals-ram";
  ExpectRefusal({.memory_arguments =
                     Backend("memory-backend-file,id=ram,size=32M,share=on,mem-path=" + path)},
                "disk file system", "tmpfs");
  unlink(path.c_str());
}

TEST_P(QemuRefusals, TmpfsWithHugePages) {
  std::string pattern = "/tmp/faultline-huge-XXXXXX";
  ASSERT_NE(mkdtemp(pattern.data()), nullptr);
  if (mount("tmpfs", pattern.c_str(), "tmpfs", 0, "huge=always") != 0) {
    std::filesystem::remove_all(pattern);
    GTEST_SKIP() << "this kernel or user cannot mount a tmpfs with huge=always";
  }
  ExpectRefusal({.memory_arguments = Backend(
                     "memory-backend-file,id=ram,size=32M,share=on,mem-path=" + pattern + "/ram")},
                "huge=always", "huge=never");
  umount2(pattern.c_str(), MNT_DETACH);
  std::filesystem::remove_all(pattern);
}

TEST_P(QemuRefusals, UnsharedSecondBackend) {
  std::vector<std::string> memory = {
      "-m",       "32M,slots=1,maxmem=64M",
      "-object",  "memory-backend-file,id=ram,size=32M,mem-path=/dev/shm,share=on",
      "-machine", "pc,memory-backend=ram",
      "-object",  "memory-backend-ram,id=more,size=16M",
      "-device",  "pc-dimm,memdev=more"};
  memory[1] = "32M,slots=1,maxmem=1G";
  memory[7] = "memory-backend-ram,id=more,size=128M";
  ExpectRefusal({.memory_arguments = memory}, "'more' is a memory-backend-ram",
                "memory-backend-file");
}

TEST_P(QemuRefusals, SharedMemoryDevice) {
  ExpectRefusal(
      {.extra_arguments = {"-object",
                           "memory-backend-file,id=shm,size=1M,mem-path=/dev/shm,share=on",
                           "-device", "ivshmem-plain,memdev=shm"}},
      "ivshmem", "device_del");
}

TEST_P(QemuRefusals, WhatQemuItselfCannotMigrate) {
  std::string disk = testing::TempDir() + "/faultline-refusals.vmdk";
  if (std::system(("qemu-img create -q -f vmdk " + disk + " 1M").c_str()) != 0) {
    GTEST_SKIP() << "qemu-img is missing (Debian package qemu-utils)";
  }
  ExpectRefusal({.extra_arguments = {"-drive", "if=virtio,format=vmdk,file=" + disk}},
                "QEMU itself cannot migrate this VM", "vmdk");
  unlink(disk.c_str());
}

TEST_P(QemuRefusals, CapabilityThatIsSet) {
  ExpectRefusal({}, "'postcopy-ram' is set", "switch it off", [](Inspector* inspector) {
    Json on = {{"capability", "postcopy-ram"}, {"state", true}};
    inspector->Execute("migrate-set-capabilities", {{"capabilities", Json::array({on})}});
  });
}

TEST_P(QemuRefusals, SourceThatWaitsItself) {
  ExpectRefusal({.incoming = true}, "waits for a migration itself", "the running VM");
}

TEST_P(QemuRefusals, MonitorHeldBySomebodyElse) {
  auto qemu = Start({});
  ASSERT_NE(qemu, nullptr);
  auto holder = QmpClient::Connect(qemu->qmp_path(), nullptr);
  ASSERT_TRUE(holder.ok()) << holder.status();
  auto vm = PrepareSource(*qemu);
  ASSERT_FALSE(vm.ok());
  EXPECT_NE(MessageOf(vm.status()).find("held by another client"), std::string::npos)
      << vm.status();
}

TEST_P(QemuRefusals, MigrationOfSomebodyElseIsNotEnded) {
  auto qemu = Start({});
  ASSERT_NE(qemu, nullptr);
  Inspector inspector(*qemu);
  Json pause = {{"capability", "pause-before-switchover"}, {"state", true}};
  inspector.Execute("migrate-set-capabilities", {{"capabilities", Json::array({pause})}});
  inspector.Execute("migrate", {{"uri", "exec:cat > /dev/null"}});
  for (int i = 0; i < 500; ++i) {
    if (JsonText(inspector.Execute("query-migrate"), "status") == "pre-switchover") break;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  auto vm = PrepareSource(*qemu);
  ASSERT_FALSE(vm.ok());
  EXPECT_NE(MessageOf(vm.status()).find("another migration"), std::string::npos) << vm.status();
  EXPECT_EQ(JsonText(inspector.Execute("query-migrate"), "status"), "pre-switchover");
}

TEST_P(QemuRefusals, LockedMemoryOnTheDestination) {
  auto qemu = Start({.extra_arguments = {"-overcommit", "mem-lock=on"}, .incoming = true});
  if (qemu == nullptr) GTEST_SKIP() << "QEMU may not lock its memory here";
  DestinationHandle destination(&loop_, {qemu->qmp_path(), nullptr});
  auto vm = destination.Prepare();
  ASSERT_FALSE(vm.ok());
  EXPECT_NE(MessageOf(vm.status()).find("mem-lock=on"), std::string::npos) << vm.status();
}

TEST_P(QemuRefusals, ReplacedRamFile) {
  auto qemu = Start({});
  ASSERT_NE(qemu, nullptr);
  std::filesystem::rename(qemu->ram_path(), qemu->ram_path() + ".old");
  FileDescriptor other(open(qemu->ram_path().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  ASSERT_EQ(ftruncate(other.get(), 32 << 20), 0);
  // Either its own file is found through its process, or the other one is refused: never used.
  auto vm = PrepareSource(*qemu);
  if (!vm.ok()) {
    EXPECT_NE(MessageOf(vm.status()).find("is not the one that QEMU"), std::string::npos)
        << vm.status();
  } else {
    EXPECT_NE(vm->regions[0].host_address, 0u);
  }
}

// A hugetlbfs of its own, and pages for it, as long as it lives.
class HugeMount {
 public:
  HugeMount() {
    std::string pattern = "/tmp/faultline-hugetlb-XXXXXX";
    if (mkdtemp(pattern.data()) == nullptr) return;
    path_ = pattern;
    mounted_ = mount("none", path_.c_str(), "hugetlbfs", 0, "pagesize=2M") == 0;
    std::ifstream(kPool) >> before_;
    std::ofstream(kPool) << before_ + 32;
  }
  ~HugeMount() {
    std::ofstream(kPool) << before_;
    umount2(path_.c_str(), MNT_DETACH);
    std::filesystem::remove_all(path_);
  }
  bool mounted() const { return mounted_; }
  const std::string& path() const { return path_; }

 private:
  static constexpr const char* kPool =
      "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages";
  std::string path_;
  bool mounted_ = false;
  int before_ = 0;
};

TEST_P(QemuRefusals, BalloonOnHugetlbButNotHugetlbAlone) {
  HugeMount huge;
  if (!huge.mounted()) GTEST_SKIP() << "this kernel or user cannot mount hugetlbfs";
  QemuTestOptions options;
  options.memory_arguments =
      Backend("memory-backend-file,id=ram,size=32M,share=on,mem-path=" + huge.path());
  {
    auto qemu = Start(options);
    ASSERT_NE(qemu, nullptr);
    auto vm = PrepareSource(*qemu);
    ASSERT_TRUE(vm.ok()) << vm.status();
    EXPECT_EQ(vm->regions[0].layout.page_size_bytes, 2u << 20);
  }
  options.extra_arguments = {"-device", "virtio-balloon"};
  ExpectRefusal(options, "balloon", "unplug");
}

// Not a refusal: what mem-path may also be.
TEST_P(QemuRefusals, FolderAsMemPathWorks) {
  auto qemu = Start({.memory_arguments = Backend(
                         "memory-backend-file,id=ram,size=32M,mem-path=/dev/shm,share=on")});
  ASSERT_NE(qemu, nullptr);
  auto vm = PrepareSource(*qemu);
  ASSERT_TRUE(vm.ok()) << vm.status();
  EXPECT_NE(vm->regions[0].host_address, 0u);
}

TEST_P(QemuRefusals, TwoBackendsAreTwoRegions) {
  std::vector<std::string> memory = {"-m", "64M", "-machine", "pc", "-smp", "2"};
  for (const char* id : {"a", "b"}) {
    memory.insert(
        memory.end(),
        {"-object", std::string("memory-backend-file,size=32M,mem-path=/dev/shm,share=on,id=") + id,
         "-numa", std::string("node,memdev=") + id});
  }
  auto qemu = Start({.memory_arguments = memory});
  ASSERT_NE(qemu, nullptr);
  auto vm = PrepareSource(*qemu);
  ASSERT_TRUE(vm.ok()) << vm.status();
  ASSERT_EQ(vm->regions.size(), 2u);
  EXPECT_NE(vm->regions[0].layout.name, vm->regions[1].layout.name);
}

INSTANTIATE_TEST_SUITE_P(Qemu, QemuRefusals, testing::ValuesIn(QemuBinaries()),
                         [](const auto& instance) {
                           return instance.index == 0 ? "System" : "Newer";
                         });

}  // namespace
}  // namespace faultline
