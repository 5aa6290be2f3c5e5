// Taking a VM back, over a scripted monitor: the order of record and start, and what QEMU refuses.
#include "assembly/vm_reclaim.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <atomic>
#include <string>
#include <vector>

#include "base/file_descriptor.h"
#include "vmm/qemu/fake_qmp_server.h"

namespace faultline {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class ReclaimVmTest : public testing::Test, public Journal {
 protected:
  absl::Status Record(JournalPhase phase) override {
    if (!journal_works_) return absl::ResourceExhaustedError("the disk is full");
    started_at_record_ = continued_;
    records_.push_back(phase);
    return absl::OkStatus();
  }
  absl::Status MakeDurable() override {
    ++durable_;
    return journal_works_ ? absl::OkStatus() : absl::ResourceExhaustedError("the disk is full");
  }

  // A QEMU that stands in `vm_status_` and runs the VM on 'cont' unless a disk is locked.
  std::string Answer(const std::string& command, const std::string& id) {
    if (command == "query-status") {
      return fmt::format(R"({{"return": {{"status": "{}"}}, "id": {}}})"
                         "\n",
                         continued_ ? "running" : vm_status_, id);
    }
    if (command == "cont" && disk_locked_) {
      return fmt::format(R"({{"error": {{"class": "GenericError", "desc": "Failed to get lock"}},)"
                         R"( "id": {}}})"
                         "\n",
                         id);
    }
    if (command == "cont") continued_ = true;
    if (command == "query-migrate-capabilities") {
      return fmt::format(R"({{"return": [{{"capability": "x-ignore-shared", "state": true}}],)"
                         R"( "id": {}}})"
                         "\n",
                         id);
    }
    return EmptyReturn(id);
  }
  ReclaimResult Reclaim(bool run = true) {
    kept_.run = run;
    return ReclaimVm(server_.path(), kept_, this);
  }
  // The VM has its RAM in that file, which this process (QEMU here) may have open.
  void HasRam(int file) {
    struct stat info;
    ASSERT_EQ(fstat(file, &info), 0);
    kept_.regions = {{.layout = {"ram", 4096, 4096},
                      .path = "/dev/shm/vm",
                      .file_offset_bytes = 0,
                      .device = info.st_dev,
                      .inode = info.st_ino}};
  }
  bool Asked(const std::string& command) const {
    for (const Json& request : server_.requests()) {
      if (JsonText(request, "execute") == command) return true;
    }
    return false;
  }

  std::atomic<bool> continued_ = false;
  std::string vm_status_ = "postmigrate";
  bool disk_locked_ = false;
  bool journal_works_ = true;
  bool started_at_record_ = false;
  int durable_ = 0;
  std::vector<JournalPhase> records_;
  KeptMigration kept_;
  FakeQmpServer server_{
      FakeQmpServer::kGreeting,
      [this](const std::string& command, const std::string& id) { return Answer(command, id); }};
};

TEST_F(ReclaimVmTest, RecordsFirstThenRuns) {
  ReclaimResult result = Reclaim();
  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_TRUE(result.owned && result.runs);
  EXPECT_THAT(result.notices, IsEmpty());
  EXPECT_THAT(records_, ElementsAre(JournalPhase::kReclaimed));
  EXPECT_FALSE(started_at_record_);
  EXPECT_EQ(durable_, 1);
  EXPECT_TRUE(Asked("announce-self"));
  EXPECT_TRUE(Asked("migrate-set-capabilities"));
}

TEST_F(ReclaimVmTest, AVmThatWasPausedStaysPaused) {
  ReclaimResult result = Reclaim(/*run=*/false);
  EXPECT_TRUE(result.status.ok() && result.owned) << result.status;
  EXPECT_FALSE(result.runs || Asked("cont") || Asked("announce-self"));
}

TEST_F(ReclaimVmTest, ALockedDiskTakesTheRecordBack) {
  disk_locked_ = true;
  ReclaimResult result = Reclaim();
  EXPECT_FALSE(result.owned || result.runs);
  EXPECT_THAT(MessageOf(result.status), HasSubstr("Failed to get lock"));
  EXPECT_THAT(MessageOf(result.status), HasSubstr("the destination's QEMU lives"));
  EXPECT_THAT(records_, ElementsAre(JournalPhase::kReclaimed, JournalPhase::kCommitted));
  EXPECT_EQ(durable_, 2);
}

TEST_F(ReclaimVmTest, WithoutARecordNothingIsStarted) {
  journal_works_ = false;
  ReclaimResult result = Reclaim();
  EXPECT_TRUE(absl::IsResourceExhausted(result.status)) << result.status;
  EXPECT_FALSE(result.owned || Asked("cont"));
}

TEST_F(ReclaimVmTest, AnotherQemuBehindTheMonitorIsLeftAlone) {
  vm_status_ = "inmigrate";
  ReclaimResult result = Reclaim();
  EXPECT_THAT(MessageOf(result.status), HasSubstr("'inmigrate'"));
  EXPECT_THAT(records_, IsEmpty());
  EXPECT_FALSE(result.owned || Asked("cont"));
}

TEST_F(ReclaimVmTest, AQemuWithTheVmsRamIsKnownByIt) {
  FileDescriptor ram(memfd_create("ram", MFD_CLOEXEC));
  ASSERT_NO_FATAL_FAILURE(HasRam(ram.get()));
  ReclaimResult result = Reclaim();
  EXPECT_TRUE(result.owned && result.runs) << result.status;
}

TEST_F(ReclaimVmTest, AQemuWithOtherRamIsLeftAlone) {
  FileDescriptor ram(memfd_create("ram", MFD_CLOEXEC));
  ASSERT_NO_FATAL_FAILURE(HasRam(ram.get()));
  ram.Reset();
  ReclaimResult result = Reclaim();
  EXPECT_THAT(MessageOf(result.status), HasSubstr("is another VM's"));
  EXPECT_THAT(records_, IsEmpty());
  EXPECT_FALSE(result.owned || Asked("cont"));
}

TEST_F(ReclaimVmTest, WithoutAQemuThereIsNothingToTakeBack) {
  ReclaimResult result = ReclaimVm("/tmp/faultline-no-such-socket", kept_, this);
  EXPECT_THAT(MessageOf(result.status), HasSubstr("nothing to take back"));
  EXPECT_THAT(records_, IsEmpty());
}

}  // namespace
}  // namespace faultline
