// `faultline abandon` as a real process over a fake VM: what it refuses, writes and leaves as it
// is.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

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

constexpr char kSourceIsDead[] = "--i-know-the-source-is-dead";

class AbandonCommandTest : public ::testing::Test {
 protected:
  AbandonCommandTest() { mkdir(run_.c_str(), 0700); }

  // What a `receive` leaves that was killed after the handover.
  void LeaveUnfinished(const std::string& records = "3 loaded\n4 committed\n") {
    std::ofstream(Path("journal")) << fmt::format(
        "faultline-journal 1 {0} destination\nkept {0} {1} 1 4096,4096,0,1,2,61,62\n{2}", id_,
        std::string(32, 'c'), records);
    std::ofstream(Path("command"))
        << R"({"endpoint":"tcp://0.0.0.0:7","qmp":"/run/q","hook":"/run/h"})";
  }
  std::string Path(const std::string& kind) { return run_ + "/" + id_ + ".destination." + kind; }
  CommandResult Abandon(std::vector<std::string> more, const std::string& script = "") {
    more.insert(more.begin(), "abandon");
    return RunCommand(Options(std::move(more), script));
  }
  CommandOptions Options(std::vector<std::string> arguments, const std::string& script) {
    return {.arguments = std::move(arguments),
            .environment = {{"FAKE_SESSION", script}, {"FAULTLINE_RUN_DIRECTORY", run_}}};
  }

  ScratchDirectory scratch_;
  const std::string run_ = scratch_ / "run";
  const std::string dump_ = scratch_ / "vm.ram";
  const std::string id_ = "a" + std::string(31, '1');
};

TEST_F(AbandonCommandTest, DumpsWhatIsThereAndSaysWhatIsMissing) {
  LeaveUnfinished();
  const std::string before = *ReadTextFile(Path("journal"));
  CommandResult result = Abandon({"--dump", dump_, "--json"});
  ASSERT_EQ(result.exit_status, 0) << result.error;
  json object = json::parse(result.out);
  EXPECT_EQ(object["event"], "dumped");
  EXPECT_EQ(object["pages_total"], 8);
  EXPECT_EQ(object["pages_missing"], 4);
  json map = json::parse(*ReadTextFile(object["map"].get<std::string>()));
  EXPECT_EQ(map["id"], id_);
  EXPECT_EQ(map["regions"][0]["name"], "ram0");
  EXPECT_EQ(map["regions"][0]["missing"], json::parse("[[4, 4]]"));
  for (const std::string& path : {dump_, dump_ + ".json"}) {
    struct stat info;
    ASSERT_EQ(stat(path.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777, 0600u) << path;
  }
  EXPECT_EQ(*ReadTextFile(Path("journal")), before) << "it can be taken up again";
  EXPECT_THAT(Abandon({"a1", "--dump", dump_ + "2"}).out,
              AllOf(HasSubstr("4 of 8 pages are missing"), HasSubstr("not zeros")));
}

TEST_F(AbandonCommandTest, NothingIsOverwrittenAndNoHalfDumpIsLeft) {
  LeaveUnfinished();
  std::ofstream(dump_ + ".json") << "of another day";
  CommandResult result = Abandon({"--dump", dump_});
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_THAT(result.error, HasSubstr(dump_ + ".json"));
  EXPECT_FALSE(std::filesystem::exists(dump_));
  EXPECT_EQ(*ReadTextFile(dump_ + ".json"), "of another day");
  result = Abandon({"--dump", dump_ + "2", "--json"}, "disk-full");
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_EQ(json::parse(result.out)["event"], "failed");
  EXPECT_FALSE(std::filesystem::exists(dump_ + "2"));
  EXPECT_FALSE(std::filesystem::exists(dump_ + "2.json"));
}

TEST_F(AbandonCommandTest, PoisonSaysFirstWhatItMeansHere) {
  LeaveUnfinished();
  const std::string before = *ReadTextFile(Path("journal"));
  CommandResult result = Abandon({"--poison"});
  EXPECT_EQ(result.exit_status, 2);
  EXPECT_THAT(result.error, AllOf(HasSubstr("QEMU dies of a SIGBUS"), HasSubstr("Nothing was done"),
                                  HasSubstr("--i-know-the-source-is-dead")));
  result = Abandon({"--poison", "--json"}, "kvm");
  EXPECT_EQ(result.exit_status, 2);
  EXPECT_THAT(result.error, HasSubstr("machine check"));
  EXPECT_EQ(json::parse(result.out)["kvm"], true);
  result = Abandon({"--poison", kSourceIsDead, "--json"}, "old-kernel");
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_EQ(json::parse(result.out)["event"], "failed");
  EXPECT_EQ(*ReadTextFile(Path("journal")), before);
}

TEST_F(AbandonCommandTest, PoisonIsForGood) {
  LeaveUnfinished();
  CommandResult result = Abandon({"--poison", kSourceIsDead, "--json"});
  ASSERT_EQ(result.exit_status, 0) << result.error;
  EXPECT_EQ(json::parse(result.out)["pages_poisoned"], 4);
  EXPECT_THAT(*ReadTextFile(Path("journal")), HasSubstr("4 committed\n8 abandoned\n"));
  CommandResult resume = RunCommand(Options({"receive", "--resume", "a1"}, "complete"));
  EXPECT_EQ(resume.exit_status, 2);
  EXPECT_THAT(resume.error, HasSubstr("given up with 'faultline abandon'"));
  EXPECT_THAT(RunCommand(Options({"status", "a1"}, "")).out, HasSubstr("poisoned"));
}

TEST_F(AbandonCommandTest, AVmThatMayRunOnTheSourceIsNotPoisoned) {
  LeaveUnfinished("3 loaded\n");
  CommandResult result = Abandon({"--poison", kSourceIsDead});
  EXPECT_EQ(result.exit_status, 2);
  EXPECT_THAT(result.error, HasSubstr("only the source can say"));
}

TEST_F(AbandonCommandTest, Refusals) {
  EXPECT_EQ(Abandon({}).exit_status, 2);
  EXPECT_THAT(Abandon({}).error, HasSubstr("--dump FILE"));
  EXPECT_EQ(Abandon({"--dump", dump_, "--poison"}).exit_status, 2);
  EXPECT_THAT(Abandon({"--dump", dump_}).error, HasSubstr("nothing to take up"));
  EXPECT_THAT(Abandon({"xyz", "--dump", dump_}).error, HasSubstr("is no migration id"));
  LeaveUnfinished();
  CommandResult result = Abandon({"--dump", dump_, "--hook", "unix:/nobody"});
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_THAT(result.error, HasSubstr("nobody serves the hook"));
  EXPECT_FALSE(std::filesystem::exists(dump_));
}

// All that is left is to tell the source.
TEST_F(AbandonCommandTest, AVmThatMissesNothingIsNotAbandoned) {
  LeaveUnfinished("3 loaded\n4 committed\n9 whole\n");
  for (std::vector<std::string> what : {std::vector<std::string>{"--dump", dump_},
                                        std::vector<std::string>{"--poison", kSourceIsDead}}) {
    CommandResult result = Abandon(what);
    EXPECT_EQ(result.exit_status, 2);
    EXPECT_THAT(result.error, HasSubstr("all memory is here"));
  }
  EXPECT_THAT(RunCommand(Options({"status"}, "")).out,
              HasSubstr("receive --resume " + id_ + "' tells the source"));
  const CommandResult listed = RunCommand(Options({"status", "--json"}, ""));
  EXPECT_EQ(json::parse(listed.out)["whole"], true);
}

TEST_F(AbandonCommandTest, AReceiveThatRunsIsInTheWay) {
  LeaveUnfinished();
  RunningCommand receive(Options({"receive", "--resume", "--json"}, "hold-listening"));
  ASSERT_TRUE(receive.WaitForOut("listening"));
  CommandResult result = Abandon({"--dump", dump_});
  EXPECT_EQ(result.exit_status, 2);
  EXPECT_THAT(result.error, AllOf(HasSubstr(fmt::format("process {}", receive.pid())),
                                  HasSubstr("then abandon")));
}

}  // namespace
}  // namespace faultline
