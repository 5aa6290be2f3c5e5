// `faultline reclaim` as a real process over a fake VM: what it refuses, says and leaves behind.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "cli/command_runner.h"

namespace faultline {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr char kSure[] = "--i-know-the-destination-is-dead";

class ReclaimCommandTest : public ::testing::Test {
 protected:
  ReclaimCommandTest() { mkdir(run_.c_str(), 0700); }

  // What a `migrate` leaves that was killed after the handover.
  void LeaveUnfinished(bool run = true) {
    std::ofstream(Path("journal")) << fmt::format(
        "faultline-journal 1 {0} source\nkept {0} {1} {2} 4096,4096,0,1,2,61,62\n4 committed\n",
        id_, std::string(32, 'c'), run ? 1 : 0);
    std::ofstream(Path("command")) << R"({"endpoint":"tcp://far:7","qmp":"/run/q"})";
  }
  std::string Path(const std::string& kind) { return run_ + "/" + id_ + ".source." + kind; }
  std::string Journal() { return *ReadTextFile(Path("journal")); }

  CommandResult Reclaim(std::vector<std::string> more, const std::string& script = "") {
    more.insert(more.begin(), "reclaim");
    return RunCommand(Options(std::move(more), script));
  }
  CommandOptions Options(std::vector<std::string> arguments, const std::string& script) {
    return {.arguments = std::move(arguments),
            .environment = {{"FAKE_SESSION", script}, {"FAULTLINE_RUN_DIRECTORY", run_}}};
  }

  ScratchDirectory scratch_;
  const std::string run_ = scratch_ / "run";
  const std::string id_ = "a" + std::string(31, '1');
};

TEST_F(ReclaimCommandTest, WithoutTheFlagItSaysWhatItMeansAndDoesNothing) {
  LeaveUnfinished();
  const std::string before = Journal();
  CommandResult result = Reclaim({});
  EXPECT_EQ(result.exit_status, 2);
  EXPECT_THAT(result.out, IsEmpty());
  EXPECT_THAT(result.error, AllOf(HasSubstr(id_), HasSubstr("tcp://far:7"), HasSubstr("is lost"),
                                  HasSubstr("disks do not go back"), HasSubstr("two VMs run")));
  EXPECT_THAT(result.error, AllOf(HasSubstr("Nothing was done"), HasSubstr(kSure)));
  result = Reclaim({"a1", "--json"});
  EXPECT_EQ(result.exit_status, 2);
  json object = json::parse(result.out);
  EXPECT_EQ(object["event"], "confirmation-needed");
  EXPECT_EQ(object["id"], id_);
  EXPECT_EQ(object["consequences"].size(), 4u);
  EXPECT_EQ(Journal(), before);
}

TEST_F(ReclaimCommandTest, TakesTheVmBackForGood) {
  LeaveUnfinished();
  CommandResult result = Reclaim({kSure, "--json"});
  ASSERT_EQ(result.exit_status, 0) << result.error;
  json object = json::parse(result.out);
  EXPECT_EQ(object["event"], "reclaimed");
  EXPECT_EQ(object["vm_owner"], "source");
  EXPECT_EQ(object["vm_runs"], true);
  EXPECT_THAT(result.error, HasSubstr("asked /run/q"));
  EXPECT_THAT(Journal(), HasSubstr("4 committed\n7 reclaimed\n"));
  // Nobody serves the destination from here any more, and nothing is left to reclaim.
  CommandResult resume = RunCommand(Options({"migrate", "--resume", "a1"}, "complete"));
  EXPECT_EQ(resume.exit_status, 2);
  EXPECT_THAT(resume.error, HasSubstr("took the VM back with 'faultline reclaim'"));
  EXPECT_EQ(Reclaim({"a1", kSure}).exit_status, 2);
  EXPECT_THAT(RunCommand(Options({"status", "a1"}, "")).out,
              AllOf(HasSubstr("reclaimed"), HasSubstr("the VM is the source's")));
  EXPECT_THAT(RunCommand(Options({"status"}, "")).out, Not(HasSubstr("unfinished")));
}

TEST_F(ReclaimCommandTest, AVmThatWasPausedStaysPaused) {
  LeaveUnfinished(/*run=*/false);
  EXPECT_THAT(Reclaim({}).error, HasSubstr("stays paused"));
  CommandResult result = Reclaim({kSure, "--qmp", "unix:/run/other"});
  EXPECT_EQ(result.exit_status, 0);
  EXPECT_THAT(result.out, HasSubstr("it is paused"));
  EXPECT_THAT(result.error, HasSubstr("asked /run/other"));
}

TEST_F(ReclaimCommandTest, ADestinationThatLivesKeepsTheVm) {
  LeaveUnfinished();
  CommandResult result = Reclaim({kSure, "--json"}, "disk-locked");
  EXPECT_EQ(result.exit_status, 3);
  EXPECT_EQ(json::parse(result.out)["vm_owner"], "destination");
  EXPECT_THAT(result.error, HasSubstr("lock on a disk"));
  EXPECT_TRUE(std::filesystem::exists(Path("command"))) << "it can be taken up again";
}

TEST_F(ReclaimCommandTest, NothingToReclaim) {
  for (const char* id : {"", "b2"}) {
    std::vector<std::string> arguments = {kSure};
    if (*id != '\0') arguments.push_back(id);
    CommandResult result = Reclaim(arguments);
    EXPECT_EQ(result.exit_status, 2);
    EXPECT_THAT(result.error, HasSubstr("nothing to take up"));
  }
  EXPECT_THAT(Reclaim({"xyz"}).error, HasSubstr("is no migration id"));
  LeaveUnfinished();
  EXPECT_THAT(Reclaim({kSure, "--qmp", "tcp:1.2.3.4:5"}).error, HasSubstr("only unix sockets"));
}

TEST_F(ReclaimCommandTest, AMigrateThatRunsIsInTheWay) {
  RunningCommand migrate(
      Options({"migrate", "--to", "tcp://127.0.0.1:1", "--qmp", "/run/q", "--json"}, "hold-after"));
  ASSERT_TRUE(migrate.WaitForOut("post-copy"));
  CommandResult result = Reclaim({kSure});
  EXPECT_EQ(result.exit_status, 2);
  EXPECT_THAT(result.error, AllOf(HasSubstr(fmt::format("process {}", migrate.pid())),
                                  HasSubstr("end it first")));
}

TEST_F(ReclaimCommandTest, AMigrateThatDoesNotAnswerIsInTheWayToo) {
  LeaveUnfinished();
  RunningCommand migrate(Options({"migrate", "--resume"}, "hold-after"));
  ASSERT_TRUE(migrate.WaitForError("post-copy"));
  migrate.Signal(SIGSTOP);
  const std::string before = Journal();
  CommandResult result = Reclaim({kSure});
  EXPECT_EQ(result.exit_status, 2);
  EXPECT_THAT(result.error, HasSubstr("another command works on this migration"));
  EXPECT_EQ(Journal(), before);
}

}  // namespace
}  // namespace faultline
