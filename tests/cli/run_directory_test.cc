#include "cli/run_directory.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <utime.h>

#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>

namespace faultline {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr char kIdA[] = "00000000000000000000000000000001";
constexpr char kIdB[] = "00000000000000000000000000000002";

class RunDirectoryTest : public ::testing::Test {
 protected:
  RunDirectoryTest() {
    char name[] = "/tmp/faultline-run-XXXXXX";
    base_ = mkdtemp(name);
  }
  ~RunDirectoryTest() override { std::filesystem::remove_all(base_); }
  std::string base_;
};

TEST_F(RunDirectoryTest, IsPrivate) {
  absl::StatusOr<RunDirectory> made = RunDirectory::Open(base_ + "/run");
  ASSERT_TRUE(made.ok()) << made.status();
  struct stat info;
  ASSERT_EQ(stat(made->path().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0700u);
  EXPECT_TRUE(RunDirectory::Open(base_ + "/run").ok());
  ASSERT_EQ(chmod((base_ + "/run").c_str(), 0750), 0);
  EXPECT_THAT(RunDirectory::Open(base_ + "/run").status().message(), HasSubstr("chmod 700"));
  std::filesystem::create_directory_symlink(base_, base_ + "/link");
  EXPECT_FALSE(RunDirectory::Open(base_ + "/link").ok());
  EXPECT_FALSE(RunDirectory::Open("relative").ok());
  std::filesystem::create_directories(base_ + "/" + std::string(80, 'x'));
  EXPECT_THAT(RunDirectory::Open(base_ + "/" + std::string(80, 'x') + "/run").status().message(),
              HasSubstr("too long a name"));
}

TEST_F(RunDirectoryTest, ListsOneKindAndIgnoresTheRest) {
  RunDirectory directory = *RunDirectory::Open(base_ + "/run");
  for (const char* name : {"x.source.sock", "00.source.sock"}) {
    std::ofstream(directory.path() + "/" + name) << "";
  }
  std::ofstream(directory.PathOf(kIdB, Role::kSource, "sock")) << "";
  std::ofstream(directory.PathOf(kIdA, Role::kDestination, "sock")) << "";
  std::ofstream(directory.PathOf(kIdA, Role::kDestination, "journal")) << "";
  std::ofstream(directory.PathOf(kIdA, Role::kDestination, "sock") + ".new") << "";
  absl::StatusOr<std::vector<SessionFile>> files = directory.List("sock");
  ASSERT_TRUE(files.ok());
  ASSERT_THAT(*files, SizeIs(2));
  EXPECT_EQ((*files)[0].migration_id, kIdA);
  EXPECT_EQ((*files)[0].role, Role::kDestination);
  EXPECT_EQ((*files)[1].role, Role::kSource);
}

TEST_F(RunDirectoryTest, OnlyWhatEndedLongAgoIsTidiedAway) {
  RunDirectory directory = *RunDirectory::Open(base_ + "/run");
  utimbuf old{.actime = time(nullptr) - 100000, .modtime = time(nullptr) - 100000};
  for (const char* kind : {"journal", "json"}) {
    std::ofstream(directory.PathOf(kIdA, Role::kSource, kind)) << "";
    ASSERT_EQ(utime(directory.PathOf(kIdA, Role::kSource, kind).c_str(), &old), 0);
  }
  std::ofstream(directory.PathOf(kIdB, Role::kSource, "json")) << "";
  // A journal without an end may be all that says whose a VM is.
  std::string unfinished = directory.PathOf(kIdB, Role::kDestination, "journal");
  std::ofstream(unfinished) << "";
  ASSERT_EQ(utime(unfinished.c_str(), &old), 0);
  directory.RemoveOld();
  EXPECT_FALSE(std::filesystem::exists(directory.PathOf(kIdA, Role::kSource, "journal")));
  EXPECT_FALSE(std::filesystem::exists(directory.PathOf(kIdA, Role::kSource, "json")));
  EXPECT_TRUE(std::filesystem::exists(directory.PathOf(kIdB, Role::kSource, "json")));
  EXPECT_TRUE(std::filesystem::exists(unfinished));
}

// Both hosts may still be there: then --resume wants its journal.
TEST_F(RunDirectoryTest, WhatCanBeTakenUpAgainIsNotTidiedAway) {
  RunDirectory directory = *RunDirectory::Open(base_ + "/run");
  utimbuf old{.actime = time(nullptr) - 100000, .modtime = time(nullptr) - 100000};
  for (const char* id : {kIdA, kIdB}) {
    const std::string journal = directory.PathOf(id, Role::kSource, "journal");
    std::ofstream(journal) << "faultline-journal 1 " << id << " source\n4 committed\n"
                           << (id == std::string(kIdB) ? "5 completed\n" : "");
    for (const char* kind : {"json", "command"}) {
      std::ofstream(directory.PathOf(id, Role::kSource, kind)) << "";
    }
    ASSERT_EQ(utime(directory.PathOf(id, Role::kSource, "json").c_str(), &old), 0);
  }
  directory.RemoveOld();
  for (const char* kind : {"journal", "json", "command"}) {
    EXPECT_TRUE(std::filesystem::exists(directory.PathOf(kIdA, Role::kSource, kind))) << kind;
    EXPECT_FALSE(std::filesystem::exists(directory.PathOf(kIdB, Role::kSource, kind))) << kind;
  }
}

// Every command reads what the earlier ones left, so that must not grow with each.
TEST_F(RunDirectoryTest, OnlyTheLastHundredAreKept) {
  RunDirectory directory = *RunDirectory::Open(base_ + "/run");
  const auto id = [](int number) { return fmt::format("{:032x}", number); };
  for (int i = 0; i < 103; ++i) {
    const std::string journal = directory.PathOf(id(i), Role::kSource, "journal");
    std::ofstream(journal) << "faultline-journal 1 " << id(i) << " source\n4 committed\n"
                           << (i == 1 ? "" : "5 completed\n");
    const std::string json = directory.PathOf(id(i), Role::kSource, "json");
    std::ofstream(json) << "";
    const time_t ended_at = time(nullptr) - 1000 + i;
    utimbuf times{.actime = ended_at, .modtime = ended_at};
    ASSERT_EQ(utime(json.c_str(), &times), 0);
  }
  directory.RemoveOld();
  const auto kept = [&](int i) {
    return std::filesystem::exists(directory.PathOf(id(i), Role::kSource, "json")) &&
           std::filesystem::exists(directory.PathOf(id(i), Role::kSource, "journal"));
  };
  EXPECT_FALSE(kept(0));
  EXPECT_TRUE(kept(1));  // can be taken up again
  EXPECT_FALSE(kept(2));
  for (int i = 3; i < 103; ++i) EXPECT_TRUE(kept(i)) << i;
}

// Nor when the clock jumps by a day: it may hold the VM.
TEST_F(RunDirectoryTest, AnUndecidedDestinationIsNotTidiedAway) {
  RunDirectory directory = *RunDirectory::Open(base_ + "/run");
  utimbuf old{.actime = time(nullptr) - 100000, .modtime = time(nullptr) - 100000};
  for (const char* id : {kIdA, kIdB}) {
    std::ofstream(directory.PathOf(id, Role::kDestination, "journal"))
        << "faultline-journal 1 " << id << " destination\n1 preparing\n3 loaded\n"
        << (id == std::string(kIdB) ? "6 rolled-back\n" : "");
    std::ofstream(directory.PathOf(id, Role::kDestination, "json")) << "";
    ASSERT_EQ(utime(directory.PathOf(id, Role::kDestination, "json").c_str(), &old), 0);
  }
  directory.RemoveOld();
  for (const char* kind : {"journal", "json"}) {
    EXPECT_TRUE(std::filesystem::exists(directory.PathOf(kIdA, Role::kDestination, kind))) << kind;
    EXPECT_FALSE(std::filesystem::exists(directory.PathOf(kIdB, Role::kDestination, kind))) << kind;
  }
}

// Nor while the hook may be armed: somebody has to let the memory go.
TEST_F(RunDirectoryTest, AWholeDestinationIsTidiedAwayOnceItsMemoryWasLetGo) {
  RunDirectory directory = *RunDirectory::Open(base_ + "/run");
  utimbuf old{.actime = time(nullptr) - 100000, .modtime = time(nullptr) - 100000};
  for (const char* id : {kIdA, kIdB}) {
    std::ofstream(directory.PathOf(id, Role::kDestination, "journal"))
        << "faultline-journal 1 " << id << " destination\n3 loaded\n4 committed\n9 whole\n"
        << (id == std::string(kIdB) ? "10 released\n" : "");
    std::ofstream(directory.PathOf(id, Role::kDestination, "json")) << "";
    ASSERT_EQ(utime(directory.PathOf(id, Role::kDestination, "json").c_str(), &old), 0);
  }
  directory.RemoveOld();
  EXPECT_TRUE(std::filesystem::exists(directory.PathOf(kIdA, Role::kDestination, "journal")));
  EXPECT_FALSE(std::filesystem::exists(directory.PathOf(kIdB, Role::kDestination, "journal")));
}

TEST(MigrationIdTest, IsRandom) {
  absl::StatusOr<std::string> first = MakeMigrationId();
  absl::StatusOr<std::string> second = MakeMigrationId();
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_THAT(*first, SizeIs(32));
  EXPECT_NE(*first, *second);
}

TEST(SocketPathTest, TakesBothForms) {
  EXPECT_EQ(*ParseSocketPath("unix:/a/b", "--qmp"), "/a/b");
  // Who takes the migration up again may stand elsewhere.
  EXPECT_EQ(*ParseSocketPath("a/b", "--qmp"), std::filesystem::absolute("a/b").string());
  EXPECT_THAT(ParseSocketPath("", "--qmp").status().message(), HasSubstr("--qmp"));
  EXPECT_FALSE(ParseSocketPath("unix:" + std::string(108, 'x'), "--qmp").ok());
}

}  // namespace
}  // namespace faultline
