// Real tmpfs memory, of this process and of a child, becomes huge, and nothing else does.
#include "memory/huge_page_collapser.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>

#include "base/check.h"
#include "base/file_descriptor.h"
#include "memory/kernel_abi.h"

namespace faultline {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr uint64_t kHuge = uint64_t{2} << 20;
constexpr uint64_t kStretches = 4;
constexpr uint64_t kPagesPerStretch = kHuge / 4096;

// Why no kernel setting of this machine lets any memory become huge; empty: it can.
std::string WhyTheKernelCannot() {
  FileDescriptor self(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)));
  if (syscall(SYS_process_madvise, self.get(), nullptr, 0, kMadvCollapse, 0) < 0) {
    return std::string("process_madvise(MADV_COLLAPSE): ") + strerror(errno);
  }
  std::string line;
  std::getline(std::ifstream("/sys/kernel/mm/transparent_hugepage/shmem_enabled"), line);
  if (line.empty()) return "a kernel without huge pages for tmpfs";
  return line.find("[deny]") != std::string::npos ? "shmem_enabled is 'deny'" : "";
}

// kStretches of 2 MiB of a tmpfs file, full of data. Their first byte is `lead_bytes` after a
// multiple of 2 MiB in memory, and `file_offset_bytes` after the file's begin.
class TmpfsRam {
 public:
  explicit TmpfsRam(uint64_t lead_bytes = 0, uint64_t file_offset_bytes = 0)
      : offset_bytes_(file_offset_bytes) {
    file_ = FileDescriptor(open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    FAULTLINE_CHECK(file_.valid());
    FAULTLINE_CHECK(ftruncate(file_.get(), static_cast<off_t>(offset_bytes_ + kBytes)) == 0);
    room_ = mmap(nullptr, kRoomBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    FAULTLINE_CHECK(room_ != MAP_FAILED);
    uint64_t first = (reinterpret_cast<uint64_t>(room_) + kHuge - 1) / kHuge * kHuge + lead_bytes;
    void* base = mmap(reinterpret_cast<void*>(first), kBytes, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_FIXED, file_.get(), static_cast<off_t>(offset_bytes_));
    FAULTLINE_CHECK(base != MAP_FAILED);
    base_ = static_cast<unsigned char*>(base);
    for (uint64_t byte = 0; byte < kBytes; byte += 4096) memset(base_ + byte, ValueAt(byte), 4096);
  }
  ~TmpfsRam() { munmap(room_, kRoomBytes); }
  TmpfsRam(const TmpfsRam&) = delete;
  TmpfsRam& operator=(const TmpfsRam&) = delete;

  HugePageCollapser::Region region() const {
    return {.name = "ram",
            .page_size_bytes = 4096,
            .page_count = kBytes / 4096,
            .host_address = reinterpret_cast<uint64_t>(base_),
            .file = file_.get(),
            .file_offset_bytes = offset_bytes_};
  }
  void PunchPage(uint64_t page) {
    FAULTLINE_CHECK(fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                              static_cast<off_t>(offset_bytes_ + page * 4096), 4096) == 0);
  }
  uint64_t allocated_bytes() const {
    struct stat status {};
    FAULTLINE_CHECK(fstat(file_.get(), &status) == 0);
    return static_cast<uint64_t>(status.st_blocks) * 512;
  }
  bool HoldsWhatWasWritten(uint64_t page) const {
    const unsigned char* bytes = base_ + page * 4096;
    return std::all_of(bytes, bytes + 4096,
                       [&](unsigned char byte) { return byte == ValueAt(page * 4096); });
  }
  // What `process` has of it in mappings of huge pages.
  uint64_t huge_bytes(pid_t process) const {
    std::ifstream smaps("/proc/" + std::to_string(process) + "/smaps");
    std::ostringstream begin;
    begin << std::hex << reinterpret_cast<uint64_t>(base_) << '-';
    bool inside = false;
    for (std::string line; std::getline(smaps, line);) {
      if (line.find('-') < line.find(' ')) inside = line.rfind(begin.str(), 0) == 0;
      uint64_t kib = 0;
      if (inside && sscanf(line.c_str(), "ShmemPmdMapped: %lu kB", &kib) == 1) return kib << 10;
    }
    return 0;
  }

 private:
  static constexpr uint64_t kBytes = kStretches * kHuge;
  static constexpr uint64_t kRoomBytes = kBytes + 2 * kHuge;
  static unsigned char ValueAt(uint64_t byte) {
    return static_cast<unsigned char>(1 + byte / 4096 % 251);
  }

  const uint64_t offset_bytes_;
  FileDescriptor file_;
  void* room_ = nullptr;
  unsigned char* base_ = nullptr;
};

// A process that has what this one has mapped.
class Child {
 public:
  Child() : process_id_(fork()) {
    if (process_id_ == 0) {
      for (;;) pause();
    }
    FAULTLINE_CHECK(process_id_ > 0);
    process_ = FileDescriptor(static_cast<int>(syscall(SYS_pidfd_open, process_id_, 0)));
  }
  ~Child() { End(); }
  void End() {
    if (process_id_ <= 0) return;
    kill(process_id_, SIGKILL);
    waitpid(process_id_, nullptr, 0);
    process_id_ = 0;
  }

  pid_t process_id() const { return process_id_; }
  int process() const { return process_.get(); }

 private:
  pid_t process_id_;
  FileDescriptor process_;
};

class HugePageCollapserTest : public testing::Test {
 protected:
  void SetUp() override {
    if (std::string why = WhyTheKernelCannot(); !why.empty()) GTEST_SKIP() << why;
    table_->ChangeMissing({0, 0, kStretches * kPagesPerStretch}, PageState::kInstalled);
  }

  struct Outcome {
    uint64_t bytes = 0;
    std::vector<std::string> notices;
  };
  Outcome RunAll(int process, const HugePageCollapser::Region& region) {
    HugePageCollapser collapser(process, {region}, table_.get());
    Outcome outcome;
    for (bool done = false; !done;) {
      HugePageStep step = collapser.Step();
      EXPECT_LE(step.bytes_made, kHuge);
      outcome.bytes += step.bytes_made;
      outcome.notices.insert(outcome.notices.end(), step.notices.begin(), step.notices.end());
      done = step.done;
    }
    return outcome;
  }

  const MemoryLayout layout_ = {{"ram", kStretches* kHuge, 4096}};
  std::vector<uint64_t> table_memory_ =
      std::vector<uint64_t>(PageTable::BytesNeeded(layout_) / sizeof(uint64_t));
  std::unique_ptr<PageTable> table_ =
      PageTable::Format(std::as_writable_bytes(std::span(table_memory_)), layout_);
  FileDescriptor self_{static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0))};
};

TEST_F(HugePageCollapserTest, AllOfItBecomesHuge) {
  TmpfsRam ram;
  ASSERT_EQ(ram.huge_bytes(getpid()), 0u);
  Outcome outcome = RunAll(self_.get(), ram.region());
  EXPECT_EQ(outcome.bytes, kStretches * kHuge);
  EXPECT_THAT(outcome.notices, IsEmpty());
  EXPECT_EQ(ram.huge_bytes(getpid()), kStretches * kHuge);
  for (uint64_t page = 0; page < kStretches * kPagesPerStretch; ++page) {
    EXPECT_TRUE(ram.HoldsWhatWasWritten(page)) << page;
  }
}

TEST_F(HugePageCollapserTest, StretchesThatAreNotWholeAreLeftAlone) {
  TmpfsRam ram;
  ASSERT_TRUE(table_->Change({0, 5}, PageState::kInstalled, PageState::kAbsent));
  table_->Discard({0, kPagesPerStretch + 511, 1});
  ram.PunchPage(2 * kPagesPerStretch + 7);  // the guest gave it up when nobody listened any more
  const uint64_t before_bytes = ram.allocated_bytes();
  Outcome outcome = RunAll(self_.get(), ram.region());
  EXPECT_EQ(outcome.bytes, kHuge);
  EXPECT_THAT(outcome.notices, IsEmpty());
  EXPECT_EQ(ram.huge_bytes(getpid()), kHuge);
  EXPECT_EQ(ram.allocated_bytes(), before_bytes);
}

TEST_F(HugePageCollapserTest, MemoryOfAnotherProcess) {
  TmpfsRam ram;
  Child child;
  Outcome outcome = RunAll(child.process(), ram.region());
  EXPECT_EQ(outcome.bytes, kStretches * kHuge);
  EXPECT_THAT(outcome.notices, IsEmpty());
  EXPECT_EQ(ram.huge_bytes(child.process_id()), kStretches * kHuge);
}

TEST_F(HugePageCollapserTest, ARegionMayBeginBetweenTwoMultiples) {
  TmpfsRam ram(/*lead_bytes=*/kHuge / 4, /*file_offset_bytes=*/kHuge / 4);
  Outcome outcome = RunAll(self_.get(), ram.region());
  EXPECT_EQ(outcome.bytes, (kStretches - 1) * kHuge);
  EXPECT_EQ(ram.huge_bytes(getpid()), (kStretches - 1) * kHuge);
}

TEST_F(HugePageCollapserTest, AMappingThatDoesNotFitIsNamedWithTheMend) {
  TmpfsRam ram(/*lead_bytes=*/4096);
  Outcome outcome = RunAll(self_.get(), ram.region());
  EXPECT_EQ(outcome.bytes, 0u);
  EXPECT_THAT(outcome.notices,
              ElementsAre(testing::AllOf(HasSubstr("'ram'"), HasSubstr("align=2M"))));
}

TEST_F(HugePageCollapserTest, OtherKindsOfMemoryAreLeftAlone) {
  TmpfsRam ram;
  HugePageCollapser::Region no_file = ram.region();
  no_file.file = -1;
  HugePageCollapser::Region huge = ram.region();
  huge.page_size_bytes = kHuge;
  huge.page_count = kStretches;
  for (const HugePageCollapser::Region& region : {no_file, huge}) {
    Outcome outcome = RunAll(self_.get(), region);
    EXPECT_EQ(outcome.bytes, 0u);
    EXPECT_THAT(outcome.notices, IsEmpty());
  }
  EXPECT_EQ(ram.huge_bytes(getpid()), 0u);
}

TEST_F(HugePageCollapserTest, AProcessThatCannotBeNamed) {
  TmpfsRam ram;
  EXPECT_THAT(RunAll(-1, ram.region()).notices, ElementsAre(HasSubstr("cannot be named")));
}

TEST_F(HugePageCollapserTest, AProcessThatHasEnded) {
  TmpfsRam ram;
  Child child;
  child.End();
  EXPECT_THAT(RunAll(child.process(), ram.region()).notices, ElementsAre(HasSubstr("ESRCH")));
}

TEST_F(HugePageCollapserTest, AProcessThatEndsMeanwhile) {
  TmpfsRam ram;
  Child child;
  HugePageCollapser collapser(child.process(), {ram.region()}, table_.get());
  EXPECT_EQ(collapser.Step().bytes_made, kHuge);
  child.End();
  HugePageStep step = collapser.Step();
  EXPECT_TRUE(step.done);
  EXPECT_EQ(step.bytes_made, 0u);
}

// Capabilities are a thread's.
void GiveUpSysNice() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[2]{};
  FAULTLINE_CHECK(syscall(SYS_capget, &header, data) == 0);
  data[CAP_TO_INDEX(CAP_SYS_NICE)].effective &= ~CAP_TO_MASK(CAP_SYS_NICE);
  FAULTLINE_CHECK(syscall(SYS_capset, &header, data) == 0);
}

TEST_F(HugePageCollapserTest, WithoutTheRightItSaysWhichOne) {
  TmpfsRam ram;
  Child child;
  std::thread([&] {
    GiveUpSysNice();
    EXPECT_THAT(RunAll(child.process(), ram.region()).notices,
                ElementsAre(HasSubstr("CAP_SYS_NICE")));
  }).join();
  EXPECT_EQ(ram.huge_bytes(child.process_id()), 0u);
}

}  // namespace
}  // namespace faultline
