#include "experiments/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace faultline::bench::experiments {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class PlanTest : public ::testing::Test {
 protected:
  absl::StatusOr<Plan> Make(const std::string& sweep) {
    return MakePlan(parameters_, base_, 1, sweep);
  }
  // The refusal of a sweep; empty if it is taken.
  std::string Refusal(const std::string& sweep) {
    const absl::StatusOr<Plan> plan = Make(sweep);
    EXPECT_EQ(plan.status().code(), absl::StatusCode::kInvalidArgument);
    return MessageOf(plan.status());
  }

  const std::vector<Parameter> parameters_ = MakeParameters();
  Point base_;
};

TEST_F(PlanTest, WithoutASweepThereIsOnePoint) {
  base_.threads = 7;
  const absl::StatusOr<Plan> plan = MakePlan(parameters_, base_, 3, std::nullopt);
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->steps(), 3u);
  EXPECT_EQ(plan->PointOf(2).threads, 7);
  EXPECT_EQ(plan->RepeatOf(2), 2u);
}

TEST_F(PlanTest, ASweepIsTheProductOfItsListsInTheirOrder) {
  base_.think_us = 5;
  const absl::StatusOr<Plan> plan =
      Make(R"({"threads": [4, 1], "pattern": ["zipf", "uniform", "hotset"], "memory_mib": 64})");
  ASSERT_TRUE(plan.ok()) << plan.status();
  std::vector<std::string> points;
  for (const Point& point : plan->points) {
    points.push_back(std::to_string(point.threads) + " " + point.pattern);
    EXPECT_EQ(point.memory_mib, 64u);
    EXPECT_EQ(point.think_us, 5);
  }
  EXPECT_THAT(points,
              ElementsAre("4 zipf", "4 uniform", "4 hotset", "1 zipf", "1 uniform", "1 hotset"));
}

TEST_F(PlanTest, RepeatsComeRoundAfterRound) {
  const absl::StatusOr<Plan> plan = Make(R"({"repeats": 2, "threads": [1, 2]})");
  ASSERT_TRUE(plan.ok()) << plan.status();
  std::vector<int64_t> threads;
  for (size_t step = 0; step < plan->steps(); ++step) {
    threads.push_back(plan->PointOf(step).threads);
    EXPECT_EQ(plan->RepeatOf(step), step / 2);
  }
  EXPECT_THAT(threads, ElementsAre(1, 2, 1, 2));
}

TEST_F(PlanTest, EachTransportIsFoundOnce) {
  std::vector<std::string> transports;
  for (const Point& point :
       OneOfEachTransport(*Make(R"({"threads": [1, 2], "transport": ["rdma", "tcp"]})"))) {
    transports.push_back(point.transport);
  }
  EXPECT_THAT(transports, ElementsAre("rdma", "tcp"));
}

TEST_F(PlanTest, EveryParameterTakesWhatItPrints) {
  const Json printed = ToJson(parameters_, Point());
  EXPECT_EQ(printed.size(), parameters_.size());
  for (const Parameter& parameter : parameters_) {
    Point point;
    EXPECT_TRUE(SetParameter(parameters_, parameter.name, printed[parameter.field], &point).ok())
        << parameter.name;
    EXPECT_EQ(ToJson(parameters_, point), printed) << parameter.name;
  }
}

TEST_F(PlanTest, WordsOfTheCommandLineAreValues) {
  const std::vector<std::vector<std::string>> words = {
      {"threads", "8"},       {"zipf_theta", "1.2"},     {"read_around", "off"},  {"push", "false"},
      {"bandwidth", "1Gbit"}, {"pattern", "sequential"}, {"allocated_share", "1"}};
  Point point;
  for (const auto& word : words) {
    EXPECT_TRUE(SetParameter(parameters_, word[0], ValueOf(word[1]), &point).ok()) << word[0];
  }
  EXPECT_EQ(point.threads, 8);
  EXPECT_EQ(point.zipf_theta, 1.2);
  EXPECT_FALSE(point.read_around);
  EXPECT_FALSE(point.push);
  EXPECT_EQ(point.bandwidth_bytes_per_second, 125'000'000u);
  EXPECT_EQ(point.pattern, "sequential");
}

TEST_F(PlanTest, WhatIsNoValueIsRefusedByName) {
  EXPECT_THAT(Refusal(R"({"threads": [1, "many"]})"),
              HasSubstr("threads: \"many\" is not possible; give a whole number from 1 to 1024"));
  EXPECT_THAT(Refusal(R"({"threads": 0})"), HasSubstr("threads: 0"));
  EXPECT_THAT(Refusal(R"({"threads": 1.5})"), HasSubstr("threads: 1.5"));
  EXPECT_THAT(Refusal(R"({"memory_mib": -1})"), HasSubstr("memory_mib: -1"));
  EXPECT_THAT(Refusal(R"({"memory_mib": 18446744073709551615})"), HasSubstr("memory_mib: 1844"));
  EXPECT_THAT(Refusal(R"({"allocated_share": 0})"), HasSubstr("a number above 0 up to 1"));
  EXPECT_THAT(Refusal(R"({"write_share": 1.01})"), HasSubstr("a number from 0 to 1"));
  EXPECT_THAT(Refusal(R"({"pattern": "random"})"), HasSubstr("uniform|zipf|hotset|sequential"));
  EXPECT_THAT(Refusal(R"({"read_around": 2})"), HasSubstr("on|off"));
  EXPECT_THAT(Refusal(R"({"bandwidth": "fast"})"), HasSubstr("bandwidth: \"fast\""));
  EXPECT_THAT(Refusal(R"({"transport": {"a": 1}})"), HasSubstr("tcp|rdma"));
}

TEST_F(PlanTest, WhatIsNoSweepIsRefused) {
  EXPECT_THAT(Refusal("[1]"), HasSubstr("no JSON object"));
  EXPECT_THAT(Refusal("{"), HasSubstr("no JSON object"));
  EXPECT_THAT(Refusal(R"({"thread": 1})"),
              HasSubstr("no parameter 'thread'; there are: transport"));
  EXPECT_THAT(Refusal(R"({"threads": []})"), HasSubstr("threads: the list is empty"));
  EXPECT_THAT(Refusal(R"({"repeats": [1, 2]})"), HasSubstr("repeats: give one whole number"));
  EXPECT_THAT(Refusal(R"({"repeats": 0})"), HasSubstr("repeats: give one whole number"));
  EXPECT_THAT(Refusal(R"({"repeats": 600000, "threads": [1, 2]})"), HasSubstr("more than 1000000"));
}

TEST_F(PlanTest, AGuestWithoutAPageForEachThreadIsRefused) {
  EXPECT_THAT(Refusal(R"({"memory_mib": 1, "touched_share": 0.01, "threads": 4})"),
              HasSubstr("works on 2 pages"));
  EXPECT_TRUE(Make(R"({"memory_mib": 1, "touched_share": 0.01, "threads": 2})").ok());
}

class FarewellTest : public PlanTest {
 protected:
  // What a side with `mine` says of a source with `theirs`, at these steps.
  std::string Difference(const std::string& mine, const std::string& theirs, size_t my_step = 0,
                         size_t their_step = 0) {
    const std::string farewell = Farewell(parameters_, *Make(theirs), their_step, std::nullopt);
    return MessageOf(ReadFarewell(parameters_, *Make(mine), my_step, farewell).status());
  }
};

TEST_F(FarewellTest, TheSamePlanBringsTheSpeed) {
  const Plan plan = *Make(R"({"threads": [1, 2]})");
  const auto speed = ReadFarewell(parameters_, plan, 1, Farewell(parameters_, plan, 1, 1234.5));
  ASSERT_TRUE(speed.ok()) << speed.status();
  EXPECT_EQ(*speed, 1234.5);
  const auto none =
      ReadFarewell(parameters_, plan, 0, Farewell(parameters_, plan, 0, std::nullopt));
  ASSERT_TRUE(none.ok()) << none.status();
  EXPECT_EQ(*none, std::nullopt);
}

TEST_F(FarewellTest, ADifferenceIsNamed) {
  EXPECT_THAT(Difference(R"({"think_us": 0})", R"({"think_us": 10})"),
              HasSubstr("think_us is 0 here and 10 on the source; start both sides with the same"));
  EXPECT_THAT(Difference(R"({"repeats": 2})", R"({"repeats": 3})"),
              HasSubstr("steps is 2 here and 3 on the source"));
  EXPECT_THAT(Difference(R"({"repeats": 2})", R"({"repeats": 2})", 0, 1),
              HasSubstr("step is 0 here and 1 on the source"));
  EXPECT_THAT(Difference(R"({"threads": [1, 2]})", R"({"threads": [1, 3]})"),
              HasSubstr("differ at another point"));
}

TEST_F(FarewellTest, AnotherProgramIsRefused) {
  for (const char* farewell : {"", "x", "[]", "{}", R"({"plan": 1})"}) {
    const auto speed = ReadFarewell(parameters_, *Make("{}"), 0, farewell);
    EXPECT_THAT(MessageOf(speed.status()), HasSubstr("the same program")) << farewell;
  }
  EXPECT_FALSE(ReadFarewell(parameters_, *Make("{}"), 0, R"({"plan": 1, "parameters": 3})").ok());
}

}  // namespace
}  // namespace faultline::bench::experiments
