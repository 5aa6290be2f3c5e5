#include "cli/doctor_verdicts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

namespace faultline {
namespace {

using ::testing::HasSubstr;

HostFacts GoodFacts() {
  HostFacts facts;
  facts.kernel_release = "6.18.1";
  facts.userfaultfd_features = ~uint64_t{0};
  facts.is_root = true;
  facts.shm_file_system = "tmpfs";
  facts.shm_options = "rw,relatime";
  facts.shm_size_bytes = uint64_t{8} << 30;
  facts.shm_free_bytes = uint64_t{4} << 30;
  facts.shmem_enabled = "never";
  facts.huge_pages = {{2 << 20, 8, 3}, {1 << 30, 0, 0}};
  facts.hook_library = "/usr/lib/faultline/faultline-qemu.so";
  facts.qemu = "qemu-system-x86_64";
  facts.qemu_version = "QEMU emulator version 7.2.22 (Debian)";
  facts.qemu_has_plugins = true;
  facts.memlock_bytes = UINT64_MAX;
  return facts;
}

DoctorLine LineAbout(const HostFacts& facts, const std::string& subject) {
  for (const DoctorLine& line : JudgeHost(facts)) {
    if (line.subject == subject) return line;
  }
  ADD_FAILURE() << "no line about " << subject;
  return {};
}

TEST(DoctorVerdictsTest, AGoodHostIsAllOk) {
  for (const DoctorLine& line : JudgeHost(GoodFacts())) {
    EXPECT_EQ(line.level, DoctorLevel::kOk) << line.subject << ": " << line.finding;
    EXPECT_EQ(line.mend, "");
  }
  EXPECT_TRUE(PostCopyPossible(JudgeHost(GoodFacts())));
  EXPECT_EQ(LineAbout(GoodFacts(), "hugetlb").finding, "3 of 8 pages of 2.0 MiB free");
}

TEST(DoctorVerdictsTest, UserfaultfdNeedsOneOfTwoWays) {
  HostFacts facts = GoodFacts();
  facts.userfaultfd_call_errno = EPERM;
  EXPECT_EQ(LineAbout(facts, "userfaultfd").level, DoctorLevel::kOk);
  facts.userfaultfd_device_errno = EACCES;
  facts.userfaultfd_features = 0;
  facts.is_root = false;
  EXPECT_EQ(LineAbout(facts, "userfaultfd").level, DoctorLevel::kFail);
  EXPECT_THAT(LineAbout(facts, "userfaultfd").mend, HasSubstr("vm.unprivileged_userfaultfd=1"));
  EXPECT_EQ(LineAbout(facts, "userfaultfd features").level, DoctorLevel::kFail);
  EXPECT_FALSE(PostCopyPossible(JudgeHost(facts)));
  facts.is_root = true;
  EXPECT_THAT(LineAbout(facts, "userfaultfd").mend, HasSubstr("container"));
  facts.userfaultfd_call_errno = ENOSYS;
  EXPECT_THAT(LineAbout(facts, "userfaultfd").mend, HasSubstr("CONFIG_USERFAULTFD"));
}

TEST(DoctorVerdictsTest, AbsentFeaturesAreNamed) {
  HostFacts facts = GoodFacts();
  facts.userfaultfd_features = ~(uint64_t{1} << 5);
  EXPECT_EQ(LineAbout(facts, "userfaultfd features").level, DoctorLevel::kFail);
  EXPECT_THAT(LineAbout(facts, "userfaultfd features").finding, HasSubstr("MISSING_SHMEM"));
  facts.userfaultfd_features = ~(uint64_t{1} << 14);
  EXPECT_EQ(LineAbout(facts, "userfaultfd features").level, DoctorLevel::kWarn);
  EXPECT_THAT(LineAbout(facts, "userfaultfd features").finding, HasSubstr("POISON"));
  EXPECT_EQ(LineAbout(facts, "dirty tracking").level, DoctorLevel::kOk);
  facts.userfaultfd_features = ~(uint64_t{1} << 15);
  EXPECT_EQ(LineAbout(facts, "userfaultfd features").level, DoctorLevel::kOk);
  EXPECT_EQ(LineAbout(facts, "dirty tracking").level, DoctorLevel::kWarn);
  EXPECT_THAT(LineAbout(facts, "dirty tracking").finding, HasSubstr("WP_ASYNC"));
  EXPECT_THAT(LineAbout(facts, "dirty tracking").mend, HasSubstr("--mode postcopy"));
  facts.soft_dirty = true;
  EXPECT_EQ(LineAbout(facts, "dirty tracking").level, DoctorLevel::kOk);
  EXPECT_THAT(LineAbout(facts, "dirty tracking").finding, HasSubstr("soft-dirty"));
  EXPECT_TRUE(PostCopyPossible(JudgeHost(facts)));
}

TEST(DoctorVerdictsTest, HugePagesOnTmpfsAreWarnedOf) {
  HostFacts facts = GoodFacts();
  facts.shm_options = "rw,huge=always,size=1g";
  EXPECT_EQ(LineAbout(facts, "/dev/shm").level, DoctorLevel::kWarn);
  EXPECT_THAT(LineAbout(facts, "/dev/shm").mend, HasSubstr("remount,huge=never"));
  facts = GoodFacts();
  facts.shm_free_bytes = 0;
  EXPECT_EQ(LineAbout(facts, "/dev/shm").level, DoctorLevel::kWarn);
  facts.shm_file_system = "";
  EXPECT_EQ(LineAbout(facts, "/dev/shm").finding, "not mounted");
  facts.shmem_enabled = "force";
  EXPECT_EQ(LineAbout(facts, "huge pages of tmpfs").level, DoctorLevel::kWarn);
}

TEST(DoctorVerdictsTest, HookAndQemuMustBeThere) {
  HostFacts facts = GoodFacts();
  facts.hook_library = "";
  facts.hook_error = "faultline-qemu.so is nowhere";
  EXPECT_FALSE(PostCopyPossible(JudgeHost(facts)));
  facts = GoodFacts();
  facts.qemu_version = "";
  EXPECT_FALSE(PostCopyPossible(JudgeHost(facts)));
  facts.qemu_version = "QEMU emulator version 6.2.0";
  EXPECT_EQ(LineAbout(facts, "QEMU").level, DoctorLevel::kWarn);
  facts = GoodFacts();
  facts.qemu_has_plugins = false;
  EXPECT_EQ(LineAbout(facts, "QEMU").level, DoctorLevel::kOk);
  EXPECT_THAT(LineAbout(facts, "QEMU").finding, HasSubstr("LD_PRELOAD"));
}

TEST(DoctorVerdictsTest, KvmKernelAndLimitsOnlyWarn) {
  HostFacts facts = GoodFacts();
  facts.kvm_errno = EACCES;
  facts.kernel_release = "5.4.0";
  facts.memlock_bytes = 64 << 10;
  EXPECT_EQ(LineAbout(facts, "KVM").level, DoctorLevel::kWarn);
  EXPECT_EQ(LineAbout(facts, "kernel").level, DoctorLevel::kWarn);
  EXPECT_THAT(LineAbout(facts, "locked memory").finding, HasSubstr("64.0 KiB"));
  EXPECT_TRUE(PostCopyPossible(JudgeHost(facts)));
}

TEST(DoctorVerdictsTest, RdmaDevicesAreNamedAndWarnedOfIfNoneIsActive) {
  EXPECT_THAT(JudgeRdma({}).finding, HasSubstr("built without"));
  RdmaFacts facts{.built_in = true, .ports = {}};
  EXPECT_THAT(JudgeRdma(facts).finding, HasSubstr("no device"));
  EXPECT_EQ(JudgeRdma(facts).level, DoctorLevel::kOk);
  facts.ports = {"mlx5_0 port 1: PORT_DOWN", "mlx5_1 port 1: PORT_DOWN"};
  EXPECT_THAT(JudgeRdma(facts).finding, HasSubstr("mlx5_0 port 1: PORT_DOWN; mlx5_1"));
  EXPECT_EQ(JudgeRdma(facts).level, DoctorLevel::kWarn);
  facts.any_active = true;
  EXPECT_EQ(JudgeRdma(facts).level, DoctorLevel::kOk);
}

TEST(DoctorVerdictsTest, AHostWithoutASandboxIsToldAndFitAllTheSame) {
  HostFacts facts = GoodFacts();
  EXPECT_EQ(LineAbout(facts, "sandbox").level, DoctorLevel::kOk);
  facts.sandbox_error = "ask for seccomp filters: Invalid argument (EINVAL)";
  EXPECT_EQ(LineAbout(facts, "sandbox").level, DoctorLevel::kWarn);
  EXPECT_THAT(LineAbout(facts, "sandbox").finding, HasSubstr("EINVAL"));
  EXPECT_THAT(LineAbout(facts, "sandbox").mend, HasSubstr("CONFIG_SECCOMP_FILTER"));
  EXPECT_TRUE(PostCopyPossible(JudgeHost(facts)));
}

TEST(DoctorVerdictsTest, CertificatesOnlyWarn) {
  TlsFacts facts;
  facts.directory = absl::NotFoundError("there are no certificates in /a or /b");
  EXPECT_EQ(JudgeTls(facts).level, DoctorLevel::kWarn);
  EXPECT_THAT(JudgeTls(facts).finding, HasSubstr("/a or /b"));
  EXPECT_THAT(JudgeTls(facts).mend, HasSubstr("--tls-psk"));
  facts.directory = "/a";
  facts.as_source = "2031-02-03";
  facts.as_destination = absl::NotFoundError("open '/a/server-cert.pem'");
  EXPECT_EQ(JudgeTls(facts).level, DoctorLevel::kOk) << "a host may only ever give VMs away";
  EXPECT_EQ(JudgeTls(facts).finding, "/a, as source valid until 2031-02-03, no destination here");
  facts.as_destination =
      absl::FailedPreconditionError("'/a/server-cert.pem' expired on 2020-01-01");
  EXPECT_EQ(JudgeTls(facts).level, DoctorLevel::kWarn);
  EXPECT_THAT(JudgeTls(facts).mend, HasSubstr("expired on 2020-01-01"));
  facts.as_source = absl::NotFoundError("open '/a/client-cert.pem'");
  facts.as_destination = absl::NotFoundError("open '/a/server-cert.pem'");
  EXPECT_EQ(JudgeTls(facts).level, DoctorLevel::kWarn);
}

}  // namespace
}  // namespace faultline
