#include "runtime/journal/file_journal.h"

#include <gtest/gtest.h>

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
  for (JournalPhase phase : {JournalPhase::kPreparing, JournalPhase::kFrozen,
                             JournalPhase::kCommitted, JournalPhase::kCompleted}) {
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
  EXPECT_EQ(*ReadTextFile(path_),
            "faultline-journal 1 00ff source\n1 preparing\n2 frozen\n4 committed\n5 completed\n");
}

TEST_F(FileJournalTest, RecordCutShortDoesNotCount) {
  auto content = ParseJournal("faultline-journal 1 00ff source\n2 frozen\n4 committ");
  ASSERT_TRUE(content.ok()) << content.status();
  EXPECT_EQ(content->last_phase, JournalPhase::kFrozen);
  EXPECT_FALSE(content->committed);
}

TEST_F(FileJournalTest, ForeignContentIsRefused) {
  for (const char* text : {"", "faultline-journal 2 00ff source\n", "hello\n",
                           "faultline-journal 1 00ff source\n9 later\n",
                           "faultline-journal 1 00ff source\ncommitted\n"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseJournal(text).status())) << text;
  }
}

TEST_F(FileJournalTest, DurableCopyHasTheNameThatTheFileHasByThen) {
  auto journal = FileJournal::Create(path_, state_, "00ff", "source");
  ASSERT_TRUE(journal.ok()) << journal.status();
  ASSERT_TRUE((*journal)->Record(JournalPhase::kCommitted).ok());
  ASSERT_TRUE((*journal)->MakeDurable().ok());
  EXPECT_EQ(*ReadJournalPhase(state_ + "/id.source.journal"), JournalPhase::kCommitted);
  std::filesystem::rename(path_, directory_ + "/run/other.journal");
  ASSERT_TRUE((*journal)->Record(JournalPhase::kCompleted).ok());
  absl::Status durable = (*journal)->MakeDurable();
  ASSERT_TRUE(durable.ok()) << durable;
  EXPECT_EQ(*ReadJournalPhase(state_ + "/other.journal"), JournalPhase::kCompleted);
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
