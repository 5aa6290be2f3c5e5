// What a command was told is told once: `--resume` goes by it, but for what is given anew.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "base/text.h"
#include "cli/command_runner.h"

namespace faultline {
namespace {

class ResumeOptionsTest : public ::testing::Test {
 protected:
  ResumeOptionsTest() { mkdir(run_.c_str(), 0700); }

  // The options that the session gets.
  std::string Run(std::vector<std::string> arguments, const std::string& script = "fail-after") {
    const std::string options = scratch_ / "options";
    (void)RunCommand({.arguments = std::move(arguments),
                      .environment = {{"FAKE_SESSION", script},
                                      {"FAKE_OPTIONS_FILE", options},
                                      {"FAULTLINE_RUN_DIRECTORY", run_}}});
    absl::StatusOr<std::string> text = ReadTextFile(options);
    std::filesystem::remove(options);
    return text.ok() ? *text : std::string(text.status().message());
  }
  // As if the one that ran had handed the VM over: the fake session's journal says nothing.
  void WriteJournals(const std::string& role) {
    for (const auto& file : std::filesystem::directory_iterator(run_)) {
      const std::string name = file.path().filename().string();
      if (!name.ends_with("." + role + ".command")) continue;
      const std::string id = name.substr(0, name.find('.'));
      std::ofstream(run_ + "/" + id + "." + role + ".journal") << fmt::format(
          "faultline-journal 1 {0} {1}\nkept {0} {2} 1 4096,4096,0,1,2,61,62\n4 committed\n", id,
          role, std::string(32, 'c'));
    }
  }

  ScratchDirectory scratch_;
  const std::string run_ = scratch_ / "run";
};

TEST_F(ResumeOptionsTest, OfMigrate) {
  const std::string told = Run({"migrate",   "--to",
                                "tcp://h:1", "--qmp",
                                "/q",        "--bandwidth",
                                "5M",        "--compress",
                                "lz4",       "--push-order",
                                "plain",     "--poll-us",
                                "30",        "--recovery-timeout",
                                "90s",       "--quit-source",
                                "--sandbox", "off",
                                "--rdma",    "mtu=1024",
                                "--control", "tcp://h:2"});
  EXPECT_EQ(told,
            "to=tcp://h:1 bandwidth=5000000 compress=2 order=plain poll=30 limit=90000000 "
            "quit=true sandbox=false rdma=mtu=1024 control=tcp://h:2");
  WriteJournals("source");
  EXPECT_EQ(Run({"migrate", "--resume"}), told);
  const std::string anew =
      "to=tcp://g:2 bandwidth=6000000 compress=1 order=fault-around poll=0 limit=0 quit=true "
      "sandbox=true rdma=mtu=1024,fallback=off control=tcp://h:2";
  EXPECT_EQ(Run({"migrate", "--resume", "--to", "tcp://g:2", "--bandwidth", "6M", "--compress",
                 "off", "--push-order", "fault-around", "--poll-us", "0", "--recovery-timeout",
                 "none", "--sandbox", "on", "--rdma", "fallback=off"}),
            anew);
  EXPECT_EQ(Run({"migrate", "--resume"}), anew) << "what was given anew is kept in its turn";
}

TEST_F(ResumeOptionsTest, OfReceive) {
  const std::string told =
      Run({"receive", "--listen", "tcp://127.0.0.1:0", "--qmp", "/q", "--hook", "/h", "--poll-us",
           "30", "--recovery-timeout", "2h", "--read-around", "off", "--huge-pages"});
  EXPECT_EQ(told,
            "hook=/h poll=30 limit=7200000000 around=false huge=true sandbox=true rdma= control=");
  WriteJournals("destination");
  EXPECT_EQ(Run({"receive", "--resume"}), told);
  EXPECT_EQ(Run({"receive", "--resume", "--poll-us", "7", "--recovery-timeout", "1min",
                 "--read-around", "on"}),
            "hook=/h poll=7 limit=60000000 around=true huge=true sandbox=true rdma= control=");
}

}  // namespace
}  // namespace faultline
