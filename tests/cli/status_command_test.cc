// What `faultline status` says of migrations that a restart of this host has ended.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "cli/command_runner.h"

namespace faultline {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kSourceId[] = "0a23456789abcdef0123456789abcdef";
constexpr char kDestinationId[] = "0b23456789abcdef0123456789abcdef";
constexpr char kOtherBoot[] = "boot 11111111-2222-3333-4444-555555555555\n";

class StatusCommandTest : public testing::Test {
 protected:
  StatusCommandTest() {
    std::filesystem::create_directory(state_);
    Write(kSourceId, "source");
    Write(kDestinationId, "destination");
  }

  void Write(const std::string& id, const std::string& side) {
    std::ofstream(state_ + "/" + id + "." + side + ".journal")
        << "faultline-journal 1 " << id << " " << side << "\n4 committed\n"
        << kOtherBoot;
  }

  CommandResult Status(std::vector<std::string> more = {}) {
    more.insert(more.begin(), "status");
    return RunCommand({.arguments = more,
                       .environment = {{"FAULTLINE_RUN_DIRECTORY", scratch_ / "run"},
                                       {"FAKE_STATE_DIRECTORY", state_}}});
  }

  ScratchDirectory scratch_;
  const std::string state_ = scratch_ / "state";
};

TEST_F(StatusCommandTest, EachSideSaysWhatIsLeftOfTheVm) {
  const CommandResult all = Status();
  EXPECT_EQ(all.exit_status, 0) << all.error;
  EXPECT_THAT(all.out, AllOf(HasSubstr(kSourceId), HasSubstr("'faultline abandon' there"),
                             HasSubstr(kDestinationId), HasSubstr("'faultline reclaim'")));
  const CommandResult one = Status({"0b", "--json"});
  EXPECT_EQ(one.exit_status, 0) << one.error;
  const nlohmann::json object = nlohmann::json::parse(one.out);
  EXPECT_EQ(object["id"], kDestinationId);
  EXPECT_EQ(object["role"], "destination");
  EXPECT_EQ(object["phase"], "lost");
  EXPECT_EQ(object["vm_owner"], "destination");
  EXPECT_EQ(object["state_file"], state_ + "/" + kDestinationId + ".destination.journal");
}

TEST_F(StatusCommandTest, WithoutCopiesNothingIsLost) {
  std::filesystem::remove_all(state_);
  EXPECT_THAT(Status().out, HasSubstr("No migration is running"));
  EXPECT_EQ(Status({"0b"}).exit_status, 1);
}

}  // namespace
}  // namespace faultline
