// Both drivers against stock QEMU, step by step. No guest is needed: its firmware runs.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <thread>

#include "vmm/qemu/driver_fixture.h"
#include "vmm/qemu/resumed_source_vmm.h"

namespace faultline {
namespace {

using testing::TestWithParam;

class QemuDrivers : public TestWithParam<std::string> {
 protected:
  QemuDrivers() : loop_("control") { loop_.StartThread(); }

  std::unique_ptr<QemuProcess> Start(QemuTestOptions options) {
    options.binary = GetParam();
    auto qemu = QemuProcess::Start(options);
    EXPECT_TRUE(qemu.ok()) << qemu.status();
    return qemu.ok() ? std::move(*qemu) : nullptr;
  }

  Loop loop_;
};

TEST_P(QemuDrivers, PrepareDescribesTheVm) {
  auto qemu = Start({.extra_arguments = {"-device", "virtio-balloon"}});
  ASSERT_NE(qemu, nullptr);
  SourceHandle source(&loop_, {qemu->qmp_path(), ""});
  auto vm = source.Prepare();
  ASSERT_TRUE(vm.ok()) << vm.status();
  ASSERT_EQ(vm->regions.size(), 1u);
  EXPECT_EQ(vm->regions[0].layout, (RegionLayout{"ram", 32 << 20, 4096}));
  EXPECT_NE(vm->regions[0].host_address, 0u);
  EXPECT_GE(vm->regions[0].file, 0);
  EXPECT_TRUE(vm->running);
  EXPECT_TRUE(vm->guest_may_discard);
  EXPECT_EQ(vm->vmm_version.substr(0, 5), "QEMU ");
  ASSERT_TRUE(source.Rollback().ok());
}

TEST_P(QemuDrivers, RollbackAfterPrepareRestoresSettings) {
  QemuTestOptions options;
  auto qemu = Start(options);
  ASSERT_NE(qemu, nullptr);
  Inspector inspector(*qemu);
  inspector.Execute("qom-set",
                    {{"path", "/objects/ram"}, {"property", "discard-data"}, {"value", true}});
  inspector.Execute("migrate-set-parameters", {{"max-bandwidth", 12345678}});
  SourceHandle source(&loop_, {qemu->qmp_path(), ""});
  ASSERT_TRUE(source.Prepare().ok());
  EXPECT_TRUE(inspector.Capability("x-ignore-shared"));
  EXPECT_TRUE(inspector.Capability("pause-before-switchover"));
  EXPECT_GT(inspector.Parameter("max-bandwidth"), 12345678u);
  const Json ask = {{"path", "/objects/ram"}, {"property", "discard-data"}};
  EXPECT_FALSE(JsonFlag(inspector.Execute("qom-get", ask)));
  absl::Status back = source.Rollback();
  EXPECT_TRUE(back.ok()) << back;
  EXPECT_FALSE(inspector.Capability("x-ignore-shared"));
  EXPECT_FALSE(inspector.Capability("pause-before-switchover"));
  EXPECT_EQ(inspector.Parameter("max-bandwidth"), 12345678u);
  EXPECT_TRUE(JsonFlag(inspector.Execute("qom-get", ask)));
  EXPECT_EQ(inspector.Status(), "running");
}

TEST_P(QemuDrivers, RollbackAfterSaveRunsTheVmAndItCanMigrateAgain) {
  auto qemu = Start({});
  ASSERT_NE(qemu, nullptr);
  Inspector inspector(*qemu);
  for (int attempt = 0; attempt < 2; ++attempt) {
    SourceHandle source(&loop_, {qemu->qmp_path(), ""});
    ASSERT_TRUE(source.Prepare().ok());
    ASSERT_TRUE(source.Freeze().ok());
    absl::Status saved = source.SaveDevices();
    ASSERT_TRUE(saved.ok()) << saved;
    EXPECT_EQ(inspector.Status(), "postmigrate");
    EXPECT_GT(source.device_state().size(), 10000u);
    absl::Status back = source.Rollback();
    EXPECT_TRUE(back.ok()) << back;
    EXPECT_EQ(inspector.Status(), "running");
  }
}

// Over whichever monitor the second comes.
TEST_P(QemuDrivers, TwoAtATimeAreRefused) {
  auto qemu = Start({});
  ASSERT_NE(qemu, nullptr);
  SourceHandle first(&loop_, {qemu->qmp_path(), ""});
  ASSERT_TRUE(first.Prepare().ok());
  {
    SourceHandle second(&loop_, {qemu->test_qmp_path(), ""});
    const auto vm = second.Prepare();
    EXPECT_TRUE(absl::IsFailedPrecondition(vm.status())) << vm.status();
    EXPECT_NE(MessageOf(vm.status()).find("another faultline"), std::string::npos) << vm.status();
    EXPECT_TRUE(second.Rollback().ok());
  }
  // The second has touched nothing, and does not stand in the first's way.
  EXPECT_TRUE(Inspector(*qemu).Capability("x-ignore-shared"));
  EXPECT_TRUE(first.Freeze().ok());
  EXPECT_TRUE(first.Rollback().ok());
}

// A pause before the switch costs downtime.
TEST_P(QemuDrivers, QemuPausesBeforeTheSwitchOnlyWhereItIsTold) {
  for (FreezePoint point : {FreezePoint::kDrained, FreezePoint::kSaving}) {
    auto qemu = Start({});
    ASSERT_NE(qemu, nullptr);
    Inspector inspector(*qemu);
    SourceHandle source(&loop_, {qemu->qmp_path(), ""});
    ASSERT_TRUE(source.Prepare().ok());
    ASSERT_TRUE(source.Freeze(point).ok());
    const bool drained = point == FreezePoint::kDrained;
    EXPECT_EQ(inspector.Capability("pause-before-switchover"), drained);
    const std::string status = JsonText(inspector.Execute("query-migrate"), "status");
    EXPECT_EQ(status == "pre-switchover", drained) << status;
    ASSERT_TRUE(source.Rollback().ok());
    EXPECT_FALSE(inspector.Capability("pause-before-switchover"));
    EXPECT_EQ(inspector.Status(), "running");
  }
}

TEST_P(QemuDrivers, PausedVmStaysPausedThroughRollback) {
  auto qemu = Start({});
  ASSERT_NE(qemu, nullptr);
  Inspector inspector(*qemu);
  inspector.Execute("stop");
  SourceHandle source(&loop_, {qemu->qmp_path(), ""});
  auto vm = source.Prepare();
  ASSERT_TRUE(vm.ok()) << vm.status();
  EXPECT_FALSE(vm->running);
  auto frozen = source.Freeze();
  ASSERT_TRUE(frozen.ok()) << frozen.status();
  absl::Status back = source.Rollback();
  EXPECT_TRUE(back.ok()) << back;
  EXPECT_FALSE(JsonFlag(inspector.Execute("query-status"), "running"));
  // QEMU 7.2 calls it postmigrate and migrates it again only after it has run.
  vm = source.Prepare();
  if (inspector.Status() == "paused") {
    EXPECT_TRUE(vm.ok()) << vm.status();
  } else {
    EXPECT_EQ(inspector.Status(), "postmigrate");
    EXPECT_NE(MessageOf(vm.status()).find("'cont' in its monitor"), std::string::npos);
  }
}

// Takes `source` and `destination` up to the loaded VM.
absl::Status MoveDevices(SourceHandle* source, DestinationHandle* destination,
                         const QemuProcess& from, const QemuProcess& to) {
  RETURN_IF_ERROR(source->Prepare().status());
  RETURN_IF_ERROR(destination->Prepare().status());
  RETURN_IF_ERROR(source->Freeze().status());
  RETURN_IF_ERROR(destination->DescribeAgain().status());
  RETURN_IF_ERROR(source->SaveDevices());
  // The memory, as far as this test is concerned: over the file that QEMU has mapped.
  FileDescriptor input(open(from.ram_path().c_str(), O_RDONLY | O_CLOEXEC));
  FileDescriptor output(open(to.ram_path().c_str(), O_WRONLY | O_CLOEXEC));
  std::vector<std::byte> buffer(1 << 20);
  ssize_t got = 0;
  while ((got = read(input.get(), buffer.data(), buffer.size())) > 0) {
    if (write(output.get(), buffer.data(), static_cast<size_t>(got)) != got) {
      return ErrnoStatus(errno, "copy the memory");
    }
  }
  return destination->Load(source->device_state());
}

TEST_P(QemuDrivers, WholeHandover) {
  const std::vector<std::string> devices = {"-device", "virtio-balloon", "-device",
                                            "virtio-serial"};
  auto from = Start({.name = "from", .extra_arguments = devices});
  auto to = Start({.name = "to", .extra_arguments = devices, .incoming = true});
  ASSERT_TRUE(from != nullptr && to != nullptr);
  Inspector source_vm(*from);
  Inspector destination_vm(*to);
  SourceHandle source(&loop_, {from->qmp_path(), ""});
  DestinationHandle destination(&loop_, {to->qmp_path(), nullptr});
  absl::Status moved = MoveDevices(&source, &destination, *from, *to);
  ASSERT_TRUE(moved.ok()) << moved << to->log();
  EXPECT_EQ(destination_vm.Status(), "paused");
  EXPECT_EQ(source_vm.Status(), "postmigrate");
  ASSERT_TRUE(destination.TakeOver(true).ok());
  EXPECT_EQ(destination_vm.Status(), "running");
  ASSERT_TRUE(destination.SetPaused(true).ok());
  EXPECT_EQ(destination_vm.Status(), "paused");
  ASSERT_TRUE(destination.SetPaused(false).ok());
  EXPECT_EQ(destination_vm.Status(), "running");
  ASSERT_TRUE(destination.Finish().ok());
  EXPECT_FALSE(destination_vm.Capability("x-ignore-shared"));
  EXPECT_EQ(source_vm.Status(), "postmigrate");
  ASSERT_TRUE(source.Retire(true).ok());
  EXPECT_TRUE(from->WaitForEnd(5000));
  // After the handover Discard must not touch it.
  ASSERT_TRUE(destination.Discard().ok());
  EXPECT_EQ(destination_vm.Status(), "running");
}

// QEMU lives, but its monitor's connection is lost: a new one is made.
TEST_P(QemuDrivers, AMonitorThatHangsUpAfterTheLoadIsCalledAgain) {
  auto from = Start({.name = "from"});
  auto to = Start({.name = "to", .incoming = true});
  ASSERT_TRUE(from != nullptr && to != nullptr);
  Inspector destination_vm(*to);
  SourceHandle source(&loop_, {from->qmp_path(), ""});
  DestinationHandle destination(&loop_, {to->qmp_path(), nullptr});
  absl::Status moved = MoveDevices(&source, &destination, *from, *to);
  ASSERT_TRUE(moved.ok()) << moved << to->log();
  ASSERT_EQ(HangUp(to->qmp_path()), 1);
  ASSERT_EQ(HangUp(from->qmp_path()), 1);
  absl::Status taken = destination.TakeOver(true);
  EXPECT_TRUE(taken.ok()) << taken;
  EXPECT_EQ(destination_vm.Status(), "running");
  ASSERT_GE(HangUp(to->qmp_path()), 1);
  ASSERT_TRUE(destination.Finish().ok());
  EXPECT_FALSE(destination_vm.Capability("x-ignore-shared"));
  ASSERT_TRUE(source.Retire(true).ok());
  EXPECT_TRUE(from->WaitForEnd(5000));
}

// A QEMU that lives is not taken for one that has ended, and so has done what `quit` asks.
TEST_P(QemuDrivers, AMonitorThatSomebodyElseHoldsIsNoEnd) {
  auto from = Start({.name = "from"});
  auto to = Start({.name = "to", .incoming = true});
  ASSERT_TRUE(from != nullptr && to != nullptr);
  Inspector source_vm(*from);
  SourceHandle source(&loop_, {from->qmp_path(), ""});
  DestinationHandle destination(&loop_, {to->qmp_path(), nullptr});
  absl::Status moved = MoveDevices(&source, &destination, *from, *to);
  ASSERT_TRUE(moved.ok()) << moved << to->log();
  ASSERT_EQ(HangUp(from->qmp_path()), 1);
  absl::StatusOr<FileDescriptor> other = ConnectUnix(from->qmp_path(), SOCK_STREAM);
  ASSERT_TRUE(other.ok()) << other.status();
  absl::Status retired = source.Retire(true);
  EXPECT_TRUE(absl::IsFailedPrecondition(retired)) << retired;
  EXPECT_NE(MessageOf(retired).find("held by another client"), std::string::npos) << retired;
  EXPECT_EQ(source_vm.Status(), "postmigrate");
}

// Whenever that happens: who says that QEMU has ended must be right.
TEST_P(QemuDrivers, AMonitorThatHangsUpWhileItIsToldToQuitIsToldAgain) {
  for (int after_us = 0; after_us < 1000; after_us += 50) {
    SCOPED_TRACE(after_us);
    auto qemu = Start({});
    ASSERT_NE(qemu, nullptr);
    SourceHandle source(&loop_, {qemu->qmp_path(), ""});
    ASSERT_TRUE(source.Prepare().ok());
    std::thread hanging_up([&] {
      std::this_thread::sleep_for(std::chrono::microseconds(after_us));
      HangUp(qemu->qmp_path());
    });
    absl::Status retired = source.Retire(true);
    hanging_up.join();
    EXPECT_TRUE(retired.ok()) << retired;
    EXPECT_TRUE(qemu->WaitForEnd(5000));
  }
}

// The driver of a command that was started again calls it again as the first one does.
TEST_P(QemuDrivers, AMonitorThatHangsUpOnAResumedDriverIsCalledAgain) {
  auto from = Start({.name = "from"});
  auto to = Start({.name = "to", .incoming = true});
  ASSERT_TRUE(from != nullptr && to != nullptr);
  Inspector destination_vm(*to);
  SourceHandle source(&loop_, {from->qmp_path(), ""});
  {
    DestinationHandle first(&loop_, {to->qmp_path(), nullptr});
    absl::Status moved = MoveDevices(&source, &first, *from, *to);
    ASSERT_TRUE(moved.ok()) << moved << to->log();
  }
  DestinationHandle resumed(&loop_, to->qmp_path());
  absl::Status taken = resumed.TakeOver(true);
  EXPECT_TRUE(taken.ok()) << taken;
  for (bool paused : {true, false}) {
    ASSERT_EQ(HangUp(to->qmp_path()), 1);
    absl::Status set = resumed.SetPaused(paused);
    EXPECT_TRUE(set.ok()) << set;
    EXPECT_EQ(destination_vm.Status(), paused ? "paused" : "running");
  }
  ASSERT_EQ(HangUp(to->qmp_path()), 1);
  absl::Status finished = resumed.Finish();
  EXPECT_TRUE(finished.ok()) << finished;
  EXPECT_FALSE(destination_vm.Capability("x-ignore-shared"));
}

// Nobody knows whether the VM runs there: its memory is not given away.
TEST_P(QemuDrivers, AResumedSourceWhoseMonitorIsHeldIsRefused) {
  auto qemu = Start({});
  ASSERT_NE(qemu, nullptr);
  std::vector<FileDescriptor> others;  // one is served, the next ones wait
  while (true) {
    auto other = ConnectUnix(qemu->qmp_path(), SOCK_STREAM | SOCK_NONBLOCK);
    if (!other.ok()) break;
    others.push_back(std::move(*other));
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  std::unique_ptr<ResumedSourceVmm> source;
  RunOn(&loop_, [&] {
    source = std::make_unique<ResumedSourceVmm>(qemu->qmp_path(), std::vector<KeptRegion>(),
                                                nullptr, &loop_);
  });
  using Described = absl::StatusOr<VmDescription>;
  Described vm = Begin<Described>(&loop_, [&](auto done) { source->Prepare(done); }).get();
  EXPECT_TRUE(absl::IsFailedPrecondition(vm.status())) << vm.status();
  EXPECT_NE(MessageOf(vm.status()).find("cannot be called"), std::string::npos) << vm.status();
  RunOn(&loop_, [&] { source.reset(); });
}

TEST_P(QemuDrivers, PausedVmArrivesPaused) {
  auto from = Start({.name = "from"});
  auto to = Start({.name = "to", .incoming = true});
  ASSERT_TRUE(from != nullptr && to != nullptr);
  Inspector source_vm(*from);
  Inspector destination_vm(*to);
  source_vm.Execute("stop");
  SourceHandle source(&loop_, {from->qmp_path(), ""});
  DestinationHandle destination(&loop_, {to->qmp_path(), nullptr});
  absl::Status moved = MoveDevices(&source, &destination, *from, *to);
  ASSERT_TRUE(moved.ok()) << moved << to->log();
  ASSERT_TRUE(destination.TakeOver(false).ok());
  EXPECT_EQ(destination_vm.Status(), "paused");
  EXPECT_EQ(source_vm.Status(), "postmigrate");
  destination_vm.Execute("cont");
  EXPECT_EQ(destination_vm.Status(), "running");
}

TEST_P(QemuDrivers, MissingDeviceFailsTheLoadAndTheSourceRunsOn) {
  auto from = Start({.name = "from", .extra_arguments = {"-device", "virtio-serial"}});
  auto to = Start({.name = "to", .incoming = true});
  ASSERT_TRUE(from != nullptr && to != nullptr);
  Inspector source_vm(*from);
  SourceHandle source(&loop_, {from->qmp_path(), ""});
  DestinationHandle destination(&loop_, {to->qmp_path(), nullptr});
  absl::Status moved = MoveDevices(&source, &destination, *from, *to);
  ASSERT_FALSE(moved.ok());
  EXPECT_NE(MessageOf(moved).find("device"), std::string::npos) << moved;
  EXPECT_NE(MessageOf(moved).find("compare both QEMU command lines"), std::string::npos) << moved;
  ASSERT_TRUE(destination.Discard().ok());
  EXPECT_TRUE(to->WaitForEnd(5000));
  absl::Status back = source.Rollback();
  EXPECT_TRUE(back.ok()) << back;
  EXPECT_EQ(source_vm.Status(), "running");
}

TEST_P(QemuDrivers, DiscardAfterLoadLetsTheSourceHaveItsDiskBack) {
  std::string disk = testing::TempDir() + "/faultline-drivers-test.raw";
  FileDescriptor file(open(disk.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  ASSERT_EQ(ftruncate(file.get(), 1 << 20), 0);
  const std::vector<std::string> drive = {"-drive", "if=virtio,format=raw,file=" + disk};
  auto from = Start({.name = "from", .extra_arguments = drive});
  auto to = Start({.name = "to", .extra_arguments = drive, .incoming = true});
  ASSERT_TRUE(from != nullptr && to != nullptr);
  Inspector source_vm(*from);
  SourceHandle source(&loop_, {from->qmp_path(), ""});
  DestinationHandle destination(&loop_, {to->qmp_path(), nullptr});
  absl::Status moved = MoveDevices(&source, &destination, *from, *to);
  ASSERT_TRUE(moved.ok()) << moved << to->log();
  // The source need not wait for the destination's end: the loaded VM does not hold the disk.
  absl::Status back = source.Rollback();
  EXPECT_TRUE(back.ok()) << back;
  EXPECT_EQ(source_vm.Status(), "running");
  ASSERT_TRUE(destination.Discard().ok());
  EXPECT_TRUE(to->WaitForEnd(5000));
  EXPECT_EQ(source_vm.Status(), "running");
  unlink(disk.c_str());
}

TEST_P(QemuDrivers, DiscardEndsAQemuThatDoesNotAnswer) {
  auto to = Start({.name = "to", .incoming = true});
  ASSERT_NE(to, nullptr);
  DestinationHandle destination(&loop_, {to->qmp_path(), nullptr});
  ASSERT_TRUE(destination.Prepare().ok());
  kill(to->pid(), SIGSTOP);
  absl::Status discarded = destination.Discard();
  EXPECT_TRUE(discarded.ok()) << discarded;
  EXPECT_TRUE(to->WaitForEnd(5000));
}

TEST_P(QemuDrivers, ARunningVmIsNoDestinationAndIsNotTouched) {
  auto qemu = Start({});
  ASSERT_NE(qemu, nullptr);
  Inspector inspector(*qemu);
  DestinationHandle destination(&loop_, {qemu->qmp_path(), nullptr});
  auto vm = destination.Prepare();
  ASSERT_FALSE(vm.ok());
  EXPECT_NE(MessageOf(vm.status()).find("-incoming defer"), std::string::npos) << vm.status();
  ASSERT_TRUE(destination.Discard().ok());
  EXPECT_EQ(inspector.Status(), "running");
}

TEST_P(QemuDrivers, SourceQemuThatEndsIsReported) {
  auto qemu = Start({});
  ASSERT_NE(qemu, nullptr);
  SourceHandle source(&loop_, {qemu->qmp_path(), ""});
  ASSERT_TRUE(source.Prepare().ok());
  qemu->Kill();
  auto vm = source.Freeze();
  ASSERT_FALSE(vm.ok());
  EXPECT_NE(MessageOf(vm.status()).find("closed its monitor"), std::string::npos) << vm.status();
  EXPECT_FALSE(source.Rollback().ok());
}

std::string NameOf(const testing::TestParamInfo<std::string>& info) {
  return info.index == 0 ? "System" : "Newer";
}
INSTANTIATE_TEST_SUITE_P(Qemu, QemuDrivers, testing::ValuesIn(QemuBinaries()), NameOf);

}  // namespace
}  // namespace faultline
