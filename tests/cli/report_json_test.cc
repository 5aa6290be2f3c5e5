#include "cli/report_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace faultline {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(ReportJsonTest, BytesThatAreNoTextAreReplaced) {
  EXPECT_THAT(ToLine(NoticeJson("file '\xff\xfe'")),
              StartsWith(R"({"event":"notice","text":"file)"));
}

TEST(ReportJsonTest, PortsAreReadStrictly) {
  EXPECT_EQ(PortOf("tcp://127.0.0.1:4444"), 4444);
  EXPECT_EQ(PortOf("tcp://[::1]:1"), 1);
  EXPECT_EQ(PortOf("tcp://h:65536"), std::nullopt);
  EXPECT_EQ(PortOf("tcp://h:"), std::nullopt);
  EXPECT_EQ(PortOf("tcp://h:1x"), std::nullopt);
  EXPECT_EQ(PortOf("h"), std::nullopt);
}

TEST(ReportJsonTest, RequestsFromOthersAreNotTrusted) {
  std::string value = "kept";
  EXPECT_FALSE(ReadText("", "request", &value));
  EXPECT_FALSE(ReadText("[1]", "request", &value));
  EXPECT_FALSE(ReadText(R"({"request":1})", "request", &value));
  EXPECT_FALSE(ReadText(R"({"request":"x")", "request", &value));
  EXPECT_EQ(value, "kept");
  EXPECT_TRUE(ReadText(R"({"request":"x"})", "request", &value));
  EXPECT_EQ(value, "x");
}

TEST(ReportJsonTest, AnUndecidedVmIsNotClaimed) {
  Outcome outcome;
  outcome.role = Role::kDestination;
  outcome.result.status = absl::UnavailableError("silence");
  outcome.result.owner = VmOwner::kUndecided;
  OutputJson object = OutcomeJson(outcome);
  EXPECT_EQ(object["vm_owner"], "source");
  EXPECT_EQ(object["vm_owner_known"], false);
  EXPECT_EQ(object["error"], "silence");
  EXPECT_THAT(ToLine(object), HasSubstr("\"fault_latency_us\":{"));
}

TEST(ReportJsonTest, HugePagesAreToldWhereTheyWereAskedFor) {
  Outcome outcome;
  outcome.role = Role::kDestination;
  EXPECT_FALSE(OutcomeJson(outcome).contains("huge_pages"));
  outcome.result.huge_pages = {.bytes = 4 << 20, .elapsed_us = 7000, .cut_short = true};
  EXPECT_EQ(OutcomeJson(outcome)["huge_pages"].dump(),
            R"({"bytes":4194304,"elapsed_us":7000,"cut_short":true})");
}

TEST(ReportJsonTest, RailsAreToldWherePagesWerePushedOnThem) {
  Outcome outcome;
  EXPECT_FALSE(OutcomeJson(outcome).contains("rails"));
  outcome.result.rails = {{"192.0.2.7:4444", 12}, {"198.51.100.7:4444", 34, 30}};
  EXPECT_EQ(OutcomeJson(outcome)["rails"].dump(),
            R"([{"address":"192.0.2.7:4444","bytes_pushed":12,"bytes_written":0},)"
            R"({"address":"198.51.100.7:4444","bytes_pushed":34,"bytes_written":30}])");
}

TEST(ReportJsonTest, WhetherPagesWereCheckedIsToldAndWhatWasFound) {
  Outcome outcome;
  EXPECT_EQ(OutcomeJson(outcome)["integrity"], false);
  outcome.result.integrity = true;
  outcome.result.last.mismatches = 2;
  EXPECT_EQ(OutcomeJson(outcome)["integrity"], true);
  EXPECT_EQ(OutcomeJson(outcome)["integrity_mismatches"], 2);
}

TEST(ReportJsonTest, ADestinationWithoutASourceIsWaiting) {
  SessionState state;
  state.role = Role::kDestination;
  state.id_agreed = false;
  EXPECT_EQ(StateJson(state)["phase"], "waiting");
  state.id_agreed = true;
  state.phase = Phase::kPostCopy;
  EXPECT_EQ(StateJson(state)["phase"], "post-copy");
}

}  // namespace
}  // namespace faultline
