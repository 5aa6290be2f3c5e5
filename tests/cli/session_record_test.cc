#include "cli/session_record.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "cli/status_command.h"

namespace faultline {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::SizeIs;

const std::string kFirstId = "a" + std::string(31, '1');
const std::string kSecondId = "b" + std::string(31, '2');

class SessionRecordTest : public ::testing::Test {
 protected:
  SessionRecordTest() {
    char name[] = "/tmp/faultline-run-XXXXXX";
    base_ = mkdtemp(name);
    directory_ = std::make_unique<RunDirectory>(*RunDirectory::Open(base_ + "/run"));
  }
  ~SessionRecordTest() override { std::filesystem::remove_all(base_); }

  // The files that a command leaves which was killed with this in its journal.
  void Leave(const std::string& id, Role role, const std::string& records,
             const std::string& kept_id = "") {
    std::ofstream(directory_->PathOf(id, role, "journal"))
        << "faultline-journal 1 " << id << " " << RoleName(role) << "\n"
        << fmt::format("kept {} {} 1 4096,4096,0,1,2,61,62\n", kept_id.empty() ? id : kept_id,
                       std::string(32, 'c'))
        << records;
    ASSERT_TRUE(WriteRecord(directory_->PathOf(id, role, "command"),
                            {.endpoint = "tcp://h:1", .qmp_path = "/q", .hook_path = "/h"})
                    .ok());
  }
  std::string Refusal(Role role, const std::string& id = "") {
    return MessageOf(FindUnfinished(*directory_, role, id).status());
  }

  std::string base_;
  std::unique_ptr<RunDirectory> directory_;
};

TEST(TakeOptionsTest, OfRdmaWhatIsNamedIsTakenAndTheRestKept) {
  const auto merged = [](const std::string& kept, const std::string& given) {
    SessionRecord record{.rdma = {.tuning = kept}};
    EXPECT_TRUE(TakeOptions({.rdma = {.tuning = given}}, &record).ok());
    return record.rdma.tuning;
  };
  EXPECT_EQ(merged("mtu=1024,fallback=off", ""), "mtu=1024,fallback=off");
  EXPECT_EQ(merged("", "mtu=512"), "mtu=512");
  EXPECT_EQ(merged("mtu=1024,fallback=off,sl=3", "fallback=on"), "mtu=1024,sl=3,fallback=on");
  EXPECT_EQ(merged("mtu=1024", "mtu=512"), "mtu=512");
  EXPECT_EQ(merged("mtu=1024,bulk=write", "sl=3"), "mtu=1024,bulk=write,sl=3");
  EXPECT_EQ(merged("bulk=read,mtu=1024", "bulk=write"), "mtu=1024,bulk=write");
  // They are of the device that they were given with.
  EXPECT_EQ(merged("device=a,port=2,gid=1,tos=104", "device=b"), "tos=104,device=b");
  EXPECT_EQ(merged("device=a,port=2,gid=1", "gid=3"), "device=a,port=2,gid=3");
}

TEST_F(SessionRecordTest, ComesBackAndIsPrivate) {
  Leave(kFirstId, Role::kSource, "4 committed\n");
  const std::string path = directory_->PathOf(kFirstId, Role::kSource, "command");
  ASSERT_TRUE(WriteRecord(path, {.endpoint = "tcp://host:7",
                                 .qmp_path = "/run/q",
                                 .hook_path = "",
                                 .compress = "lz4",
                                 .bandwidth_bytes_per_second = 5,
                                 .insecure = true,
                                 .quit_source = true})
                  .ok());
  absl::StatusOr<Unfinished> found = FindUnfinished(*directory_, Role::kSource, "");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->migration_id, kFirstId);
  EXPECT_EQ(found->record.endpoint, "tcp://host:7");
  EXPECT_EQ(found->record.qmp_path, "/run/q");
  EXPECT_EQ(found->record.compress, "lz4");
  EXPECT_EQ(found->record.bandwidth_bytes_per_second, 5u);
  EXPECT_TRUE(found->record.insecure && found->record.quit_source);
  ASSERT_TRUE(found->journal.kept.has_value());
  EXPECT_EQ(found->journal.kept->token[0], 0xcc);
  struct stat info;
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
}

TEST_F(SessionRecordTest, OnlyWhatWasHandedOverCanBeTakenUp) {
  EXPECT_THAT(Refusal(Role::kSource), AllOf(HasSubstr("nothing to take up"), HasSubstr(base_)));
  Leave(kFirstId, Role::kSource, "2 frozen\n");
  EXPECT_THAT(Refusal(Role::kSource), HasSubstr("nothing to take up"));
  EXPECT_THAT(Refusal(Role::kSource, "a1"), HasSubstr("the VM is the source's"));
  Leave(kFirstId, Role::kSource, "4 committed\n5 completed\n");
  EXPECT_THAT(Refusal(Role::kSource, "a1"), HasSubstr("it has completed"));
  Leave(kFirstId, Role::kSource, "3 loaded\n");
  EXPECT_FALSE(FindUnfinished(*directory_, Role::kSource, "").ok());
  // A destination that does not know whose the VM is has to hear it.
  Leave(kFirstId, Role::kDestination, "3 loaded\n");
  EXPECT_TRUE(FindUnfinished(*directory_, Role::kDestination, "").ok());
  Leave(kFirstId, Role::kDestination, "3 loaded\n6 rolled-back\n");
  EXPECT_THAT(Refusal(Role::kDestination, "a1"), HasSubstr("stayed with the source"));
}

TEST_F(SessionRecordTest, WhatWasReclaimedCannotBeTakenUp) {
  Leave(kFirstId, Role::kSource, "4 committed\n7 reclaimed\n");
  EXPECT_THAT(Refusal(Role::kSource, "a1"), HasSubstr("'faultline reclaim'"));
  EXPECT_TRUE(CheckNoneUnfinished(*directory_, "/q").ok());
  // The VM could not be taken back.
  Leave(kFirstId, Role::kSource, "4 committed\n7 reclaimed\n4 committed\n");
  EXPECT_TRUE(FindUnfinished(*directory_, Role::kSource, "").ok());
}

// The source may not know yet.
TEST_F(SessionRecordTest, AWholeDestinationCanBeTakenUp) {
  Leave(kFirstId, Role::kDestination, "4 committed\n9 whole\n");
  absl::StatusOr<Unfinished> found = FindUnfinished(*directory_, Role::kDestination, "");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->journal.last_phase, JournalPhase::kWhole);
  EXPECT_TRUE(found->journal.whole());
  Leave(kFirstId, Role::kDestination, "4 committed\n9 whole\n10 released\n");
  found = FindUnfinished(*directory_, Role::kDestination, "");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_TRUE(found->journal.whole());
  Leave(kFirstId, Role::kDestination, "4 committed\n9 whole\n5 completed\n");
  EXPECT_THAT(Refusal(Role::kDestination, "a1"), HasSubstr("it has completed"));
}

TEST_F(SessionRecordTest, SeveralHaveToBeTold) {
  Leave(kFirstId, Role::kSource, "4 committed\n");
  Leave(kSecondId, Role::kSource, "4 committed\n");
  EXPECT_THAT(Refusal(Role::kSource), AllOf(HasSubstr(kFirstId), HasSubstr(kSecondId)));
  EXPECT_EQ(FindUnfinished(*directory_, Role::kSource, "b")->migration_id, kSecondId);
  EXPECT_THAT(Refusal(Role::kSource, "c"), HasSubstr("begins with 'c'"));
  EXPECT_FALSE(FindInRunDirectory(base_ + "/run", Role::kSource, "xyz").ok());
}

TEST_F(SessionRecordTest, ASecondMigrationOfTheSameVmIsRefused) {
  EXPECT_TRUE(CheckNoneUnfinished(*directory_, "/q").ok());
  Leave(kFirstId, Role::kSource, "4 committed\n");
  EXPECT_THAT(MessageOf(CheckNoneUnfinished(*directory_, "/q")),
              AllOf(HasSubstr("migrate --resume " + kFirstId), HasSubstr("remove '")));
  EXPECT_TRUE(CheckNoneUnfinished(*directory_, "/another").ok());
  Leave(kFirstId, Role::kSource, "4 committed\n5 completed\n");
  EXPECT_TRUE(CheckNoneUnfinished(*directory_, "/q").ok());
}

TEST_F(SessionRecordTest, AJournalUnderItsFirstNameIsNotASecondMigration) {
  Leave(kFirstId, Role::kDestination, "4 committed\n", kSecondId);
  Leave(kSecondId, Role::kDestination, "4 committed\n");
  EXPECT_THAT(*ListUnfinished(*directory_, Role::kDestination), SizeIs(1));
}

TEST(SessionRecordText, WhatIsNestedWithoutEndIsNoRecord) {
  const std::string deep = std::string(400'000, '[') + std::string(400'000, ']');
  EXPECT_TRUE(absl::IsInvalidArgument(ParseRecord("{\"endpoint\": " + deep + "}").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(ParseRecord("[]").status()));
  EXPECT_EQ(ParseRecord(R"({"endpoint": 1, "qmp": "/q"})")->qmp_path, "/q");
}

TEST(SessionRows, ControlCharactersOfAnotherProcessAreReplaced) {
  const OutputJson object = {{"id", "a\x1b[31m"}, {"event", "failed"}, {"error", "x\ny"}};
  EXPECT_THAT(RunningRow(object), HasSubstr("a?[31m"));
  EXPECT_THAT(EndedRow(object), AllOf(HasSubstr("a?[31m"), HasSubstr("x?y\n")));
}

TEST_F(SessionRecordTest, TheFileThatIsMissingIsNamed) {
  Leave(kFirstId, Role::kDestination, "4 committed\n");
  const std::string record = directory_->PathOf(kFirstId, Role::kDestination, "command");
  std::filesystem::remove(record);
  for (const char* id : {"", "a1"}) {
    EXPECT_THAT(Refusal(Role::kDestination, id),
                AllOf(HasSubstr(kFirstId), HasSubstr("cannot be taken up"), HasSubstr(record)));
  }
  // The name from before the id was known, and the one that it names is gone.
  Leave(kFirstId, Role::kDestination, "4 committed\n", kSecondId);
  EXPECT_THAT(Refusal(Role::kDestination, "a1"), HasSubstr("its id is " + kSecondId));
}

TEST_F(SessionRecordTest, AnUndecidedDestinationIsListedAsOne) {
  const auto row = [this](const std::string& records) {
    Leave(kFirstId, Role::kDestination, records);
    return UnfinishedRow(*FindUnfinished(*directory_, Role::kDestination, ""), Role::kDestination);
  };
  EXPECT_THAT(row("3 loaded\n"),
              AllOf(HasSubstr("receive --resume " + kFirstId),
                    HasSubstr("asks the source whose the VM is"), HasSubstr("stands paused here")));
  EXPECT_THAT(row("3 loaded\n4 committed\n"), HasSubstr("' goes on\n"));
  EXPECT_THAT(row("3 loaded\n4 committed\n9 whole\n"), HasSubstr("tells the source"));
}

TEST_F(SessionRecordTest, FilesThatCannotBeReadAreLeftOut) {
  Leave(kFirstId, Role::kSource, "4 committed\n");
  std::ofstream(directory_->PathOf(kFirstId, Role::kSource, "command")) << "not JSON";
  EXPECT_THAT(*ListUnfinished(*directory_, Role::kSource), SizeIs(0));
  std::ofstream(directory_->PathOf(kSecondId, Role::kSource, "journal")) << "not a journal";
  EXPECT_THAT(Refusal(Role::kSource, "b"), HasSubstr("journal"));
}

}  // namespace
}  // namespace faultline
