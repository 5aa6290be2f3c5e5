// What the command says and with what status it ends, run as a real process over a fake session.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/text.h"
#include "cli/command_runner.h"

namespace faultline {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::StartsWith;

constexpr char kId[] = "0123456789abcdef0123456789abcdef";

class CommandLineTest : public ::testing::Test {
 protected:
  CommandOptions With(std::vector<std::string> arguments, const std::string& script = "complete") {
    return {.arguments = std::move(arguments),
            .environment = {{"FAKE_SESSION", script}, {"FAULTLINE_RUN_DIRECTORY", run_}}};
  }
  CommandOptions Migrate(const std::string& script, std::vector<std::string> more = {}) {
    std::vector<std::string> arguments = {"migrate", "--to", "tcp://127.0.0.1:1", "--qmp",
                                          "unix:/tmp/qmp"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return With(arguments, script);
  }
  CommandOptions Receive(const std::string& script, std::vector<std::string> more = {}) {
    std::vector<std::string> arguments = {"receive",  "--listen", "tcp://127.0.0.1:0", "--qmp",
                                          "/tmp/qmp", "--hook",   "/tmp/hook"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return With(arguments, script);
  }
  std::vector<std::string> FilesLeft() {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(run_)) {
      names.push_back(entry.path().filename());
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  ScratchDirectory scratch_;
  std::string run_ = scratch_ / "run";
};

std::vector<json> Objects(const std::string& text) {
  std::vector<json> objects;
  for (const std::string& line : LinesOf(text)) objects.push_back(json::parse(line));
  return objects;
}

TEST_F(CommandLineTest, BadUsageEndsWithTwoAndOneSentence) {
  struct Case {
    std::vector<std::string> arguments;
    const char* sentence;
  };
  const Case cases[] = {
      {{}, "subcommand"},
      {{"fly"}, "there is no subcommand 'fly'"},
      {{"set", "00"}, "not in this release: 'set'"},
      {{"migrate"}, "--to"},
      {{"migrate", "--to", "tcp://h:1"}, "--qmp"},
      {{"migrate", "--to", "h:1", "--qmp", "/q"}, "give tcp://HOST:PORT"},
      {{"migrate", "--to", "tcp://h:99999", "--qmp", "/q"}, "with a port from 0 to 65535"},
      {{"migrate", "--to", "rdma://h", "--qmp", "/q"}, "rdma://HOST:PORT"},
      {{"migrate", "--to", "rdma://h,rdma://g:1", "--qmp", "/q"}, "rdma://HOST:PORT"},
      {{"migrate", "--to", "tcp://h:1", "--qmp", "/q", "--mode", "hybrid"}, "needs --hook"},
      {{"migrate", "--to", "tcp://h:1", "--qmp", "/q", "--mode", "precopy"}, "needs --hook"},
      {{"migrate", "--to", "tcp://h:1", "--qmp", "/q", "--throttle"}, "--mode precopy, not with"},
      {{"migrate", "--to", "tcp://h:1", "--qmp", "/q", "--hook", "/h", "--mode", "hybrid",
        "--throttle"},
       "not with hybrid"},
      {{"migrate", "--to", "tcp://h:1", "--qmp", "/q", "--precopy-time", "5"}, "--precopy-time"},
      {{"migrate", "--to", "tcp://h:1", "--qmp", "/q", "--downtime-limit", "x"},
       "--downtime-limit"},
      {{"migrate", "--to", "tcp://h:1", "--qmp", "/q", "--precopy-rounds", "0"},
       "--precopy-rounds"},
      {{"migrate", "--to", "tcp://h:1", "--qmp", "/q", "--mode", "x"}, "x"},
      {{"migrate", "--to", "tcp://h:1", "--qmp", "/q", "--bandwidth", "fast"}, "is not a rate"},
      {{"migrate", "--to", "tcp://h:1", "--qmp", "/q", "--compress", "zip"},
       "auto, off, lz4 or zstd"},
      {{"migrate", "--to", "tcp://h:1", "--qmp", "/q", "--integrity", "maybe"}, "give on or off"},
      {{"receive", "--listen", "tcp://h:1", "--qmp", "/q", "--hook", "/h", "--integrity", "1"},
       "give on or off"},
      {{"migrate", "--to", "tcp://h:1", "--qmp", "/q", "--recovery-timeout", "9"}, "90s, 10min"},
      {{"migrate", "--to", "tcp://h:1", "--qmp", "tcp:1.2.3.4:5"}, "only unix sockets"},
      {{"migrate", "--to", "tcp://h:1", "--qmp", "unix:"}, "unix socket's path"},
      {{"migrate", "--to", "tcp://h:1", "--qmp", "/q", "--", "qemu"}, "only 'faultline receive'"},
      {{"receive", "--listen", "tcp://h:1"}, "tell where the destination QEMU is"},
      {{"receive", "--listen", "tcp://h:1", "--qmp", "/q"}, "tell where the destination QEMU is"},
      {{"receive", "--listen", "tcp://h:1", "--qmp", "/q", "--", "qemu"}, "leave them out"},
      {{"receive", "--listen", "tcp://h:1", "--"}, "no program after '--'"},
      {{"receive", "--listen", "tcp://h:1", "--", "qemu", "-incoming", "tcp:0:1"},
       "'-incoming tcp:0:1'"},
      {{"receive", "--listen", "tcp://h:1", "--", "qemu", "--daemonize"}, "-daemonize"},
      {{"status", "xyz"}, "is no migration id"},
      {{"cancel"}, "id"},
      {{"cancel", "0123456789abcdef0123456789abcdef0"}, "is no migration id"},
      {{"doctor", "--vm", "unix:"}, "unix socket's path"},
      {{"guardian"}, "two arguments"},
  };
  for (const Case& bad : cases) {
    CommandResult result = RunCommand(With(bad.arguments));
    EXPECT_EQ(result.exit_status, 2) << bad.sentence << "\n" << result.error;
    EXPECT_THAT(result.error, AllOf(StartsWith("faultline: "), HasSubstr(bad.sentence)));
    EXPECT_THAT(result.out, IsEmpty());
  }
  EXPECT_FALSE(std::filesystem::exists(run_)) << "bad usage must leave nothing behind";
}

TEST_F(CommandLineTest, HelpAndVersion) {
  CommandResult version = RunCommand(With({"--version"}));
  EXPECT_EQ(version.exit_status, 0);
  EXPECT_THAT(version.out, StartsWith("faultline "));
  CommandResult help = RunCommand(With({"--help"}));
  EXPECT_EQ(help.exit_status, 0);
  EXPECT_THAT(help.out, AllOf(HasSubstr("migrate"), HasSubstr("receive"), HasSubstr("doctor"),
                              HasSubstr("cancel"), Not(HasSubstr("guardian"))));
  CommandResult migrate = RunCommand(With({"migrate", "--help"}));
  EXPECT_EQ(migrate.exit_status, 0);
  EXPECT_THAT(migrate.out,
              AllOf(HasSubstr("--bandwidth"), HasSubstr("--compress"), HasSubstr("--quit-source"),
                    HasSubstr("--tls-dir"), HasSubstr("--tls-psk"), HasSubstr("--tls-hostname")));
  EXPECT_EQ(RunCommand(With({"guardian", "a", "b"})).exit_status, 0);
}

TEST_F(CommandLineTest, ReceiveSaysItAllInJson) {
  CommandResult result = RunCommand(Receive("complete", {"--json"}));
  EXPECT_EQ(result.exit_status, 0) << result.error;
  std::vector<json> objects = Objects(result.out);
  ASSERT_THAT(objects, SizeIs(testing::Ge(6u)));
  EXPECT_EQ(objects.front()["event"], "listening");
  EXPECT_EQ(objects.front()["address"], "tcp://127.0.0.1:45678");
  EXPECT_EQ(objects.front()["port"], 45678);
  std::vector<std::string> phases;
  int progress_count = 0;
  for (const json& object : objects) {
    if (object["event"] == "phase") phases.push_back(object["phase"]);
    if (object["event"] != "progress") continue;
    ++progress_count;
    EXPECT_EQ(object["phase"], "post-copy");
    EXPECT_EQ(object["pages_total"], 1000);
  }
  EXPECT_THAT(phases,
              ElementsAre("connecting", "preparing", "freezing", "handing-over", "post-copy"));
  EXPECT_EQ(progress_count, 3);
  const json& last = objects.back();
  EXPECT_EQ(last["event"], "completed");
  EXPECT_EQ(last["id"], kId);
  EXPECT_EQ(last["mode"], "postcopy");
  EXPECT_EQ(last["transport"], "tcp");
  EXPECT_EQ(last["downtime_us"], 12345);
  EXPECT_EQ(last["total_us"], 270000);
  EXPECT_GT(last["elapsed_us"], 0);
  EXPECT_EQ(last["pages_total"], 1000);
  EXPECT_EQ(last["pages_demand"], 30);
  EXPECT_EQ(last["pages_pushed"], 300);
  EXPECT_EQ(last["pages_absent"], 600);
  EXPECT_EQ(last["pages_discarded"], 4);
  EXPECT_EQ(last["bytes_wire"], 1351680);
  for (const char* key : {"p50", "p90", "p99", "p999", "max"}) {
    EXPECT_TRUE(last["fault_latency_us"][key].is_number_unsigned()) << key;
  }
  EXPECT_EQ(last["fault_latency_us"]["p999"], 100);
  EXPECT_FALSE(last.contains("error"));
}

TEST_F(CommandLineTest, MigrateHasNoFaultLatency) {
  CommandResult result = RunCommand(Migrate("complete", {"--json"}));
  EXPECT_EQ(result.exit_status, 0) << result.error;
  std::vector<json> objects = Objects(result.out);
  EXPECT_EQ(objects.front()["event"], "started");
  EXPECT_THAT(objects.front()["id"].get<std::string>(), SizeIs(32));
  EXPECT_EQ(objects.back()["event"], "completed");
  EXPECT_EQ(objects.back()["id"], objects.front()["id"]);
  EXPECT_FALSE(objects.back().contains("fault_latency_us"));
}

TEST_F(CommandLineTest, ExitStatusSaysWhoseTheVmIs) {
  struct Case {
    const char* script;
    int exit_status;
    const char* owner;
    bool known;
  };
  for (const Case& failing :
       {Case{"fail-before", 1, "source", true}, Case{"fail-after", 3, "destination", true},
        Case{"undecided", 3, "source", false}, Case{"throw-before", 1, "source", true},
        Case{"throw-after", 3, "destination", true}, Case{"refuse", 2, "source", true}}) {
    CommandResult result = RunCommand(Receive(failing.script, {"--json"}));
    EXPECT_EQ(result.exit_status, failing.exit_status) << failing.script << "\n" << result.error;
    ASSERT_THAT(result.out, Not(IsEmpty())) << failing.script;
    json last = Objects(result.out).back();
    EXPECT_EQ(last["event"], "failed") << failing.script;
    EXPECT_EQ(last["vm_owner"], failing.owner) << failing.script;
    EXPECT_EQ(last["vm_owner_known"], failing.known) << failing.script;
    EXPECT_THAT(last["error"].get<std::string>(), Not(IsEmpty()));
    EXPECT_THAT(result.error, HasSubstr("the migration failed: "));
  }
}

// After the handover nobody could take it up again.
TEST_F(CommandLineTest, AReceiveWhoseFilesCannotGetTheIdEndsBeforeTheHandover) {
  ASSERT_EQ(mkdir(run_.c_str(), 0700), 0);
  for (const char* kind : {"journal", "command"}) {
    const std::string obstacle = fmt::format("{}/{}.destination.{}", run_, kId, kind);
    std::filesystem::create_directories(obstacle + "/in-the-way");
    CommandResult result = RunCommand(Receive("hold-before", {"--json"}));
    EXPECT_EQ(result.exit_status, 1) << result.error;
    const json last = Objects(result.out).back();
    EXPECT_EQ(last["event"], "failed");
    EXPECT_EQ(last["vm_owner"], "source");
    EXPECT_THAT(last["error"].get<std::string>(),
                AllOf(HasSubstr(obstacle), HasSubstr("make room"), HasSubstr("migrate again")));
    std::filesystem::remove_all(obstacle);
    EXPECT_TRUE(std::filesystem::is_empty(run_)) << "nothing is left of it";
  }
}

TEST_F(CommandLineTest, AnIdThatComesAgainReplacesOnlyWhatIsOver) {
  ASSERT_EQ(mkdir(run_.c_str(), 0700), 0);
  const std::string journal = fmt::format("{}/{}.destination.journal", run_, kId);
  const auto leave = [&](const std::string& records) {
    std::ofstream(journal) << fmt::format(
        "faultline-journal 1 {0} destination\nkept {0} {1} 1 4096,4096,0,1,2,61,62\n{2}", kId,
        std::string(32, 'c'), records);
  };
  leave("4 committed\n");
  EXPECT_EQ(RunCommand(Receive("hold-before")).exit_status, 1);
  EXPECT_THAT(*ReadTextFile(journal), HasSubstr("4 committed\n"));
  leave("6 rolled-back\n");
  EXPECT_EQ(RunCommand(Receive("complete")).exit_status, 0);
  EXPECT_THAT(*ReadTextFile(journal), Not(HasSubstr("rolled-back")));
}

TEST_F(CommandLineTest, ExceptionInAThreadEndsWithThree) {
  CommandResult result = RunCommand(Migrate("throw-thread"));
  EXPECT_EQ(result.exit_status, 3);
  EXPECT_THAT(result.error, HasSubstr("look at both QEMUs"));
}

TEST_F(CommandLineTest, APersonGetsPlainLinesAndASummary) {
  CommandResult result = RunCommand(Receive("complete"));
  EXPECT_EQ(result.exit_status, 0);
  EXPECT_THAT(result.error, AllOf(HasSubstr("listening on tcp://127.0.0.1:45678"),
                                  HasSubstr("preparing (the VM runs on the source)"),
                                  HasSubstr("post-copy (the VM runs on the destination"),
                                  Not(HasSubstr("\x1b"))));
  EXPECT_THAT(result.out, AllOf(HasSubstr("completed: the VM runs on the destination"),
                                HasSubstr("downtime 12.3 ms"), HasSubstr("33 faults served")));
  CommandResult failing = RunCommand(Migrate("fail-before"));
  EXPECT_EQ(failing.exit_status, 1);
  EXPECT_THAT(failing.out, IsEmpty());
  EXPECT_THAT(failing.error, AllOf(HasSubstr("error: the migration failed: the peer hung up"),
                                   HasSubstr("The VM is the source's (this host)")));
}

TEST_F(CommandLineTest, ATerminalGetsOneLineThatIsRewritten) {
  CommandOptions options = Receive("hold-after");
  options.error_is_terminal = true;
  RunningCommand command(options);
  ASSERT_TRUE(command.WaitForError("% present"));
  command.Signal(SIGINT);
  ASSERT_TRUE(command.WaitForError("not stopped"));
  command.Signal(SIGTERM);
  EXPECT_EQ(command.WaitForExit(), 0);
  const std::string& error = command.error();
  EXPECT_THAT(error, AllOf(HasSubstr("listening on tcp://127.0.0.1:45678"), HasSubstr("\r\x1b[K")));
  // The last thing is the empty line that gives the terminal back.
  EXPECT_THAT(error, testing::EndsWith("\r\x1b[K"));
  for (size_t at = 0; (at = error.find("\x1b[K", at)) != std::string::npos; ++at) {
    std::string line = error.substr(at, error.find_first_of("\r\n", at) - at);
    if (line.find("% present") == std::string::npos) continue;
    EXPECT_LT(line.size(), 3u + 60u);
  }
}

TEST_F(CommandLineTest, AReaderThatWentAwayChangesNothing) {
  CommandOptions options = Receive("complete", {"--json"});
  options.close_stdout_reader = true;
  CommandResult result = RunCommand(options);
  EXPECT_EQ(result.exit_status, 0);
  EXPECT_THAT(result.error, HasSubstr("stdout takes no more output"));
  CommandOptions status = With({"status"});
  status.close_stdout_reader = true;
  EXPECT_EQ(RunCommand(status).exit_status, 1);
}

TEST_F(CommandLineTest, SignalsBeforeTheHandoverCancel) {
  for (int number : {SIGINT, SIGTERM, SIGHUP}) {
    RunningCommand command(Migrate("hold-before", {"--json"}));
    ASSERT_TRUE(command.WaitForOut("\"preparing\""));
    command.Signal(number);
    EXPECT_EQ(command.WaitForExit(), 1);
    json last = Objects(command.out()).back();
    EXPECT_EQ(last["event"], "failed");
    EXPECT_THAT(last["error"].get<std::string>(),
                HasSubstr(std::string("SIG") + sigabbrev_np(number)));
  }
}

TEST_F(CommandLineTest, SignalsAfterTheHandoverOnlyGiveANotice) {
  RunningCommand command(Migrate("hold-after", {"--json"}));
  ASSERT_TRUE(command.WaitForOut("\"post-copy\""));
  command.Signal(SIGINT);
  ASSERT_TRUE(command.WaitForOut("\"notice\""));
  EXPECT_TRUE(command.WaitForError("not stopped"));
  command.Signal(SIGTERM);
  EXPECT_EQ(command.WaitForExit(), 0);
  EXPECT_EQ(Objects(command.out()).back()["event"], "completed");
}

TEST_F(CommandLineTest, SignalsWhileItEndsLoseNoLastWord) {
  for (int i = 0; i < 10; ++i) {
    RunningCommand command(Migrate("hold-after", {"--json"}));
    ASSERT_TRUE(command.WaitForOut("\"post-copy\""));
    // As many as it takes: two that come together are one.
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!command.HasEnded() && std::chrono::steady_clock::now() < limit) {
      command.Signal(SIGINT);
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
    EXPECT_EQ(command.WaitForExit(), 0);
    EXPECT_EQ(Objects(command.out()).back()["event"], "completed");
  }
}

TEST_F(CommandLineTest, StatusAndCancelFromAnotherProcess) {
  RunningCommand source(Migrate("hold-before", {"--json"}));
  ASSERT_TRUE(source.WaitForOut("\"preparing\""));
  std::string id = Objects(source.out()).front()["id"];
  CommandOptions receive = Receive("hold-before", {"--json"});
  receive.environment.emplace_back("FAKE_ID", id);
  RunningCommand destination(receive);
  ASSERT_TRUE(destination.WaitForOut("\"preparing\""));
  CommandOptions other = Receive("hold-listening", {"--json"});
  RunningCommand waiting(other);
  ASSERT_TRUE(waiting.WaitForOut("\"listening\""));

  CommandResult table = RunCommand(With({"status"}));
  EXPECT_EQ(table.exit_status, 0);
  EXPECT_THAT(LinesOf(table.out), SizeIs(4));
  EXPECT_THAT(table.out, AllOf(HasSubstr(id), HasSubstr("preparing"), HasSubstr("waiting")));
  CommandResult found = RunCommand(With({"status", id.substr(0, 8), "--json"}));
  std::vector<json> objects = Objects(found.out);
  ASSERT_THAT(objects, SizeIs(2));
  EXPECT_EQ(objects[0]["role"], "destination");
  EXPECT_EQ(objects[0]["pid"], destination.pid());
  EXPECT_EQ(objects[1]["role"], "source");
  EXPECT_EQ(objects[1]["endpoint"], "tcp://127.0.0.1:1");

  // Another id: its first digit differs.
  std::string absent = std::string(id[0] == '0' ? "1" : "0") + "0123abc";
  CommandResult none = RunCommand(With({"cancel", absent}));
  EXPECT_EQ(none.exit_status, 1);
  EXPECT_THAT(none.error, HasSubstr("no running migration here has an id"));

  CommandResult cancelled = RunCommand(With({"cancel", id}));
  EXPECT_EQ(cancelled.exit_status, 0) << cancelled.error;
  EXPECT_EQ(source.WaitForExit(), 1);
  EXPECT_EQ(destination.WaitForExit(), 1);
  EXPECT_THAT(Objects(source.out()).back()["error"].get<std::string>(),
              HasSubstr("faultline cancel"));
  CommandResult ended = RunCommand(With({"status", id, "--json"}));
  EXPECT_THAT(Objects(ended.out), SizeIs(2));
  EXPECT_EQ(Objects(ended.out)[0]["event"], "failed");

  waiting.Signal(SIGTERM);
  EXPECT_EQ(waiting.WaitForExit(), 1);
  EXPECT_EQ(RunCommand(With({"status"})).out, "No migration is running.\n");
}

TEST_F(CommandLineTest, CancelWantsOneMigrationBeforeItsHandover) {
  CommandOptions first = Receive("hold-after", {"--json"});
  CommandOptions second = Receive("hold-before", {"--json"});
  first.environment.emplace_back("FAKE_ID", "aa000000000000000000000000000001");
  second.environment.emplace_back("FAKE_ID", "aa000000000000000000000000000002");
  RunningCommand past(first);
  RunningCommand before(second);
  ASSERT_TRUE(past.WaitForOut("\"post-copy\""));
  ASSERT_TRUE(before.WaitForOut("\"preparing\""));
  CommandResult several = RunCommand(With({"cancel", "aa"}));
  EXPECT_EQ(several.exit_status, 1);
  EXPECT_THAT(several.error, HasSubstr("2 running migrations"));
  CommandResult refused = RunCommand(With({"cancel", "aa000000000000000000000000000001"}));
  EXPECT_EQ(refused.exit_status, 1);
  EXPECT_THAT(refused.error, HasSubstr("runs on the destination already"));
}

TEST_F(CommandLineTest, FilesFollowTheAgreedIdAndSocketsOfTheDeadAreRemoved) {
  {
    RunningCommand command(Receive("hold-before", {"--json"}));
    ASSERT_TRUE(command.WaitForOut("\"preparing\""));
    EXPECT_TRUE(std::filesystem::is_socket(run_ + "/" + kId + ".destination.sock"));
    EXPECT_TRUE(std::filesystem::exists(run_ + "/" + kId + ".destination.journal"));
    struct stat info;
    ASSERT_EQ(stat(run_.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0700u);
  }  // killed
  EXPECT_TRUE(std::filesystem::exists(run_ + "/" + kId + ".destination.sock"));
  EXPECT_EQ(RunCommand(With({"status"})).out, "No migration is running.\n");
  EXPECT_FALSE(std::filesystem::exists(run_ + "/" + kId + ".destination.sock"));
  std::filesystem::remove_all(run_);
  EXPECT_EQ(RunCommand(Receive("complete")).exit_status, 0);
  EXPECT_THAT(FilesLeft(), ElementsAre(std::string(kId) + ".destination.journal",
                                       std::string(kId) + ".destination.json"));
}

TEST_F(CommandLineTest, ARunDirectoryThatOthersMayEnterIsRefused) {
  std::filesystem::create_directory(run_);
  ASSERT_EQ(chmod(run_.c_str(), 0755), 0);
  CommandResult result = RunCommand(Migrate("complete", {"--json"}));
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_THAT(result.error, HasSubstr("chmod 700"));
  EXPECT_EQ(Objects(result.out).back()["vm_owner"], "source");
}

TEST_F(CommandLineTest, DoctorAsksTheVm) {
  CommandOptions options = With({"doctor", "--vm", "unix:/nobody", "--json"});
  CommandResult result = RunCommand(options);
  EXPECT_EQ(result.exit_status, 1);
  std::vector<json> objects = Objects(result.out);
  ASSERT_THAT(objects, Not(IsEmpty()));
  EXPECT_EQ(objects.back()["postcopy_possible"], false);
  EXPECT_EQ(objects[objects.size() - 2]["subject"], "VM");
  EXPECT_EQ(objects[objects.size() - 2]["level"], "fail");
}

}  // namespace
}  // namespace faultline
