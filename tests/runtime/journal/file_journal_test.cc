#include "runtime/journal/file_journal.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/text.h"

namespace faultline {
namespace {

class FileJournalTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = "/dev/shm/faultline-journal-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    ASSERT_EQ(mkdir((directory_ + "/run").c_str(), 0700), 0);
    path_ = directory_ + "/run/id.source.journal";
    state_ = directory_ + "/state";
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string directory_;
  std::string path_;
  std::string state_;
};

TEST_F(FileJournalTest, RecordsAreReadBack) {
  auto journal = FileJournal::Create(path_, state_, "00ff", "source");
  ASSERT_TRUE(journal.ok()) << journal.status();
  EXPECT_TRUE(absl::IsNotFound(ReadJournalPhase(path_).status()));
  for (JournalPhase phase :
       {JournalPhase::kPreparing, JournalPhase::kFrozen, JournalPhase::kCommitted,
        JournalPhase::kWhole, JournalPhase::kReleased, JournalPhase::kCompleted,
        JournalPhase::kReclaimed, JournalPhase::kAbandoned}) {
    ASSERT_TRUE((*journal)->Record(phase).ok());
    auto read = ReadJournalPhase(path_);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(*read, phase);
  }
  auto content = ReadJournal(path_);
  ASSERT_TRUE(content.ok()) << content.status();
  EXPECT_EQ(content->migration_id, "00ff");
  EXPECT_EQ(content->side, "source");
  EXPECT_TRUE(content->committed);
  EXPECT_FALSE(content->loaded);
  EXPECT_EQ(
      *ReadTextFile(path_),
      "faultline-journal 1 00ff source\n1 preparing\n2 frozen\n4 committed\n9 whole\n10 released\n"
      "5 completed\n7 reclaimed\n8 abandoned\n");
}

TEST_F(FileJournalTest, OneProcessHasItOpen) {
  auto journal = FileJournal::Create(path_, state_, "00ff", "source");
  ASSERT_TRUE(journal.ok()) << journal.status();
  absl::Status second = FileJournal::Open(path_, state_).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(second)) << second;
  EXPECT_NE(MessageOf(second).find("another command works on this migration"), std::string::npos);
  EXPECT_TRUE(ReadJournal(path_).ok());
  journal->reset();
  auto next = FileJournal::Open(path_, state_);
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_TRUE(absl::IsFailedPrecondition(FileJournal::Open(path_, state_).status()));
}

TEST_F(FileJournalTest, RecordCutShortDoesNotCount) {
  auto content = ParseJournal("faultline-journal 1 00ff source\n2 frozen\n4 committ");
  ASSERT_TRUE(content.ok()) << content.status();
  EXPECT_EQ(content->last_phase, JournalPhase::kFrozen);
  EXPECT_FALSE(content->committed);
}

// As on a file system that has room for a part of the line only.
TEST_F(FileJournalTest, ARecordThatDoesNotFitLeavesNothingBehind) {
  auto journal = FileJournal::Create(path_, state_, "00ff", "source");
  ASSERT_TRUE(journal.ok()) << journal.status();
  ASSERT_TRUE((*journal)->Record(JournalPhase::kFrozen).ok());
  const std::string before = *ReadTextFile(path_);
  rlimit room, limited;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &room), 0);
  limited = room;
  limited.rlim_cur = before.size() + 6;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limited), 0);
  const absl::Status refused = (*journal)->Record(JournalPhase::kCommitted);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &room), 0);
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  EXPECT_EQ(*ReadTextFile(path_), before);
  ASSERT_TRUE((*journal)->Record(JournalPhase::kRolledBack).ok());
  auto content = ReadJournal(path_);
  ASSERT_TRUE(content.ok()) << content.status();
  EXPECT_EQ(content->last_phase, JournalPhase::kRolledBack);
  EXPECT_FALSE(content->committed);
}

TEST_F(FileJournalTest, ForeignContentIsRefused) {
  for (const char* text : {"", "faultline-journal 2 00ff source\n", "hello\n",
                           "faultline-journal 1 00ff source\n11 later\n",
                           "faultline-journal 1 00ff source\n4 comm6 rolled-back\n",
                           "faultline-journal 1 00ff source\n46 rolled-back\n",
                           "faultline-journal 1 00ff source\n4 frozen\n",
                           "faultline-journal 1 00ff source\ncommitted\n"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseJournal(text).status())) << text;
  }
}

TEST_F(FileJournalTest, WhatAnotherProcessNeedsIsReadBack) {
  const std::string ram = directory_ + "/a ram, of a VM";
  FileDescriptor file(open(ram.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  ASSERT_EQ(ftruncate(file.get(), 3 * 4096), 0);
  struct stat info;
  ASSERT_EQ(fstat(file.get(), &info), 0);
  const KeptTerms terms{.id = {1, 2}, .token = {3, 4}, .run = false, .integrity = true};
  VmDescription vm;
  vm.regions = {
      {.layout = {"ram 0", 2 * 4096, 4096}, .file = file.get(), .file_offset_bytes = 4096}};
  {
    auto journal = FileJournal::Create(path_, state_, "00ff", "destination");
    ASSERT_TRUE(journal.ok()) << journal.status();
    ASSERT_TRUE((*journal)->Keep({.id = {9}, .token = {8}}, vm).ok());
    ASSERT_TRUE((*journal)->Keep(terms, vm).ok());  // the last one counts
    ASSERT_TRUE((*journal)->Record(JournalPhase::kCommitted).ok());
  }
  auto content = ReadJournal(path_);
  ASSERT_TRUE(content.ok()) << content.status();
  ASSERT_TRUE(content->kept.has_value());
  EXPECT_EQ(*content->kept, (KeptMigration{terms,
                                           {{.layout = {"ram 0", 2 * 4096, 4096},
                                             .path = ram,
                                             .file_offset_bytes = 4096,
                                             .device = info.st_dev,
                                             .inode = info.st_ino}}}));
  EXPECT_TRUE(content->committed);
  // Another process goes on with it.
  auto again = FileJournal::Open(path_, state_);
  ASSERT_TRUE(again.ok()) << again.status();
  ASSERT_TRUE((*again)->Record(JournalPhase::kCompleted).ok());
  content = ReadJournal(path_);
  EXPECT_EQ(content->last_phase, JournalPhase::kCompleted);
  EXPECT_TRUE(content->committed && content->kept.has_value());
  EXPECT_TRUE(absl::IsNotFound(FileJournal::Open(path_ + ".none", state_).status()));
}

TEST_F(FileJournalTest, WhatWasKeptBadlyIsRefused) {
  const std::string head = "faultline-journal 1 00ff source\n";
  const std::string id(32, 'a');
  ASSERT_TRUE(ParseJournal(head + "kept " + id + " " + id + " 1 8192,4096,3,4,5,61,62\n").ok());
  for (const std::string& line :
       {std::string("kept"), "kept " + id, "kept " + id + " " + id + " 1",
        "kept " + id + " " + id + " 4 8192,4096,3,4,5,61,62",
        "kept " + id + "aa " + id + " 1 8192,4096,3,4,5,61,62",
        "kept " + id + " zz 1 8192,4096,3,4,5,61,62",
        "kept " + id + " " + id + " 1 8192,4096,3,4,61,62",
        "kept " + id + " " + id + " 1 8192,4096,3,4,x,61,62",
        "kept " + id + " " + id + " 1 8192,4096,3,4,5,6,62",
        // No layout that a VM can have, or an end in the file that cannot be counted.
        "kept " + id + " " + id + " 1 8192,0,3,4,5,61,62",
        "kept " + id + " " + id + " 1 8192,4096,18446744073709543424,4,5,61,62",
        "kept " + id + " " + id + " 1 8192,4096,3,4,5,61,62 8192,4096,3,4,6,61,63"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseJournal(head + line + "\n").status())) << line;
  }
  // Cut short by the writer's death.
  EXPECT_FALSE(ParseJournal(head + "kept " + id)->kept.has_value());
}

TEST_F(FileJournalTest, TheDurableCopyIsNamedAfterTheMigrationWhateverTheFileIsCalled) {
  auto journal = FileJournal::Create(path_, state_, "00ff", "destination");
  ASSERT_TRUE(journal.ok()) << journal.status();
  ASSERT_TRUE((*journal)->Record(JournalPhase::kCommitted).ok());
  std::filesystem::rename(path_, directory_ + "/run/other.journal");
  ASSERT_TRUE((*journal)->MakeDurable().ok());
  EXPECT_EQ(*ReadJournalPhase(state_ + "/00ff.destination.journal"), JournalPhase::kCommitted);
  // Once its real id is known.
  FileDescriptor ram(open((directory_ + "/ram").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  VmDescription vm;
  vm.regions = {{.layout = {"ram", 4096, 4096}, .file = ram.get(), .file_offset_bytes = 0}};
  ASSERT_TRUE((*journal)->Keep({.id = {0x12}, .token = {}}, vm).ok());
  absl::Status durable = (*journal)->MakeDurable();
  ASSERT_TRUE(durable.ok()) << durable;
  const std::string id = "12" + std::string(30, '0');
  EXPECT_EQ(ReadJournal(state_ + "/" + id + ".destination.journal")->agreed_id(), id);
}

TEST_F(FileJournalTest, AllCopiesArePrivateWhateverTheUmask) {
  const mode_t before = umask(0);
  auto mode_of = [](const std::string& path) {
    struct stat info {};
    EXPECT_EQ(lstat(path.c_str(), &info), 0) << path;
    return info.st_mode & 07777;
  };
  auto journal = FileJournal::Create(path_, state_, "00ff", "source");
  ASSERT_TRUE(journal.ok()) << journal.status();
  ASSERT_TRUE((*journal)->MakeDurable().ok());
  EXPECT_EQ(mode_of(path_), 0600u);
  EXPECT_EQ(mode_of(state_), 0700u);
  EXPECT_EQ(mode_of(state_ + "/00ff.source.journal"), 0600u);
  // What somebody has put in the way is not written to.
  std::ofstream(directory_ + "/precious") << "precious";
  std::filesystem::create_symlink(directory_ + "/precious", state_ + "/00ff.source.journal.new");
  ASSERT_TRUE((*journal)->MakeDurable().ok());
  EXPECT_EQ(*ReadTextFile(directory_ + "/precious"), "precious");
  std::filesystem::rename(state_, directory_ + "/elsewhere");
  std::filesystem::create_directory_symlink(directory_ + "/elsewhere", state_);
  EXPECT_FALSE((*journal)->MakeDurable().ok());
  umask(before);
}

TEST_F(FileJournalTest, AJournalOfOthersIsNotGoneOnWith) {
  ASSERT_TRUE(FileJournal::Create(path_, state_, "00ff", "source").ok());
  ASSERT_EQ(chmod(path_.c_str(), 0622), 0);
  EXPECT_FALSE(FileJournal::Open(path_, state_).ok());
  ASSERT_EQ(chmod(path_.c_str(), 0600), 0);
  EXPECT_TRUE(FileJournal::Open(path_, state_).ok());
  std::filesystem::create_symlink(path_, path_ + ".link");
  EXPECT_FALSE(FileJournal::Open(path_ + ".link", state_).ok());
}

TEST_F(FileJournalTest, ErrorsNameThePath) {
  ASSERT_TRUE(FileJournal::Create(path_, state_, "00ff", "source").ok());
  absl::Status twice = FileJournal::Create(path_, state_, "00ff", "source").status();
  EXPECT_TRUE(absl::IsAlreadyExists(twice)) << twice;
  EXPECT_NE(MessageOf(twice).find(path_), std::string::npos);
  absl::Status missing = ReadJournalPhase(directory_ + "/none").status();
  EXPECT_TRUE(absl::IsNotFound(missing)) << missing;
  auto journal =
      FileJournal::Create(directory_ + "/run/2", directory_ + "/run/2/x", "00ff", "source");
  ASSERT_TRUE(journal.ok());
  EXPECT_FALSE((*journal)->MakeDurable().ok());
}

}  // namespace
}  // namespace faultline
