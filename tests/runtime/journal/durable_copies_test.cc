#include "runtime/journal/durable_copies.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/text.h"

namespace faultline {
namespace {

constexpr char kOtherBoot[] = "boot 11111111-2222-3333-4444-555555555555\n";

class DurableCopiesTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = "/dev/shm/faultline-durable-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    ASSERT_EQ(mkdir((directory_ + "/run").c_str(), 0700), 0);
    path_ = directory_ + "/run/id.source.journal";
    state_ = directory_ + "/state";
    copy_ = state_ + "/00ff.source.journal";
    journal_ = FileJournal::Create(path_, state_, "00ff", "source").value();
    ASSERT_TRUE(journal_->Record(JournalPhase::kCommitted).ok());
    ASSERT_TRUE(journal_->MakeDurable().ok());
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  bool CopyIsThere() const { return access(copy_.c_str(), F_OK) == 0; }

  std::string directory_, path_, state_, copy_;
  std::unique_ptr<FileJournal> journal_;
};

TEST_F(DurableCopiesTest, TheCopyGoesWithAMigrationThatHasEnded) {
  for (JournalPhase end : {JournalPhase::kCompleted, JournalPhase::kRolledBack,
                           JournalPhase::kReclaimed, JournalPhase::kAbandoned}) {
    ASSERT_TRUE(journal_->MakeDurable().ok());
    ASSERT_TRUE(journal_->Record(end).ok());
    EXPECT_TRUE(CopyIsThere());
    journal_.reset();
    EXPECT_FALSE(CopyIsThere()) << JournalPhaseName(end);
    journal_ = FileJournal::Open(path_, state_).value();
  }
}

TEST_F(DurableCopiesTest, TheCopyStaysWhileSomebodyMayTakeTheMigrationUp) {
  for (JournalPhase phase :
       {JournalPhase::kCommitted, JournalPhase::kWhole, JournalPhase::kReleased}) {
    ASSERT_TRUE(journal_->Record(phase).ok());
    journal_.reset();
    EXPECT_TRUE(CopyIsThere()) << JournalPhaseName(phase);
    journal_ = FileJournal::Open(path_, state_).value();
  }
  // As after a reclaim that QEMU refused.
  ASSERT_TRUE(journal_->Record(JournalPhase::kReclaimed).ok());
  ASSERT_TRUE(journal_->Record(JournalPhase::kCommitted).ok());
  journal_.reset();
  EXPECT_TRUE(CopyIsThere());
  // The process that ends it is not the one that made the copy.
  journal_ = FileJournal::Open(path_, state_).value();
  ASSERT_TRUE(journal_->Record(JournalPhase::kCompleted).ok());
  journal_.reset();
  EXPECT_FALSE(CopyIsThere());
}

TEST_F(DurableCopiesTest, ThoseOfEarlierBootsAreListed) {
  EXPECT_TRUE(CopiesOfEarlierBoots(state_).empty());
  const std::string text = *ReadTextFile(copy_);
  EXPECT_EQ(ReadJournal(copy_)->boot_id, *BootId());
  EXPECT_EQ(BootId()->size(), 36u);
  const std::string records = text.substr(0, text.find("boot "));
  std::ofstream(state_ + "/b.source.journal") << records << kOtherBoot;
  std::ofstream(state_ + "/a.destination.journal")
      << "faultline-journal 1 00aa destination\n4 committed\n"
      << kOtherBoot;
  // Half a copy, none at all, and a name that is none.
  std::ofstream(state_ + "/c.source.journal") << records << "boot 1111";
  std::ofstream(state_ + "/d.source.journal") << "rubbish\n" << kOtherBoot;
  std::ofstream(state_ + "/e.source.journal.new") << records << kOtherBoot;
  const std::vector<DurableCopy> copies = CopiesOfEarlierBoots(state_);
  ASSERT_EQ(copies.size(), 2u);
  EXPECT_EQ(copies[0].path, state_ + "/a.destination.journal");
  EXPECT_EQ(copies[0].content.migration_id, "00aa");
  EXPECT_EQ(copies[0].content.side, "destination");
  EXPECT_EQ(copies[1].path, state_ + "/b.source.journal");
  EXPECT_TRUE(copies[1].content.committed);
  EXPECT_TRUE(CopiesOfEarlierBoots(directory_ + "/none").empty());
}

}  // namespace
}  // namespace faultline
