#include "transport/rdma/rail_choice.h"

#include <gtest/gtest.h>

#include <vector>

namespace faultline {
namespace {

constexpr uint32_t kUnderWayMax = 4;
constexpr uint64_t kRunBytes = 256 * 1024;

TEST(RailChoiceTest, OnlyARailWithRoomIsChosen) {
  EXPECT_FALSE(ChooseRail({}).has_value());
  const std::vector<RailLoad> full = {{false, 4, 0}, {false, 0, 0}};
  EXPECT_FALSE(ChooseRail(full).has_value());
  const std::vector<RailLoad> one = {{false, 0, 0}, {true, 3, 1 << 20}};
  EXPECT_EQ(ChooseRail(one), 1u) << "a rail is not left idle because another has less under way";
}

TEST(RailChoiceTest, TheOneWithTheLeastUnderWayAndOfEqualsTheOneThatWasGivenTheLeast) {
  const std::vector<RailLoad> busier = {{true, 2, 0}, {true, 1, 1 << 20}, {true, 3, 0}};
  EXPECT_EQ(ChooseRail(busier), 1u);
  const std::vector<RailLoad> equal = {{true, 1, 9}, {true, 1, 8}, {true, 1, 8}};
  EXPECT_EQ(ChooseRail(equal), 1u);
}

// Rails that take a run each so many ticks; a run is given out whenever there is room.
std::vector<uint64_t> RunsOf(const std::vector<int>& ticks_a_run, int ticks) {
  std::vector<RailLoad> rails(ticks_a_run.size(), RailLoad{true, 0, 0});
  std::vector<int> left(ticks_a_run);
  for (int tick = 0; tick < ticks; ++tick) {
    while (const auto chosen = ChooseRail(rails)) {
      RailLoad& rail = rails[*chosen];
      rail.bytes += kRunBytes;
      rail.has_room = ++rail.under_way < kUnderWayMax;
    }
    for (size_t i = 0; i < rails.size(); ++i) {
      EXPECT_FALSE(rails[i].has_room) << "work waits, and rail " << i << " has room";
      if (--left[i] > 0) continue;
      left[i] = ticks_a_run[i];
      --rails[i].under_way;
      rails[i].has_room = true;
    }
  }
  std::vector<uint64_t> runs;
  for (const RailLoad& rail : rails) runs.push_back(rail.bytes / kRunBytes);
  return runs;
}

TEST(RailChoiceTest, ASlowRailIsGivenLessAndNoneIsIdleWhileARunWaits) {
  const std::vector<uint64_t> runs = RunsOf({1, 10}, 1000);
  EXPECT_NEAR(static_cast<double>(runs[0]), 1000, 2 * kUnderWayMax);
  EXPECT_NEAR(static_cast<double>(runs[1]), 100, 2 * kUnderWayMax);
}

TEST(RailChoiceTest, EqualRailsShareEqually) {
  const std::vector<uint64_t> runs = RunsOf({3, 3, 3}, 999);
  EXPECT_EQ(runs[0], runs[1]);
  EXPECT_EQ(runs[1], runs[2]);
}

// A push that is held to a rate has one run under way at a time.
TEST(RailChoiceTest, WhereOneRunIsUnderWayAtATimeTheyTakeTurns) {
  std::vector<RailLoad> rails(2, RailLoad{true, 0, 0});
  for (int i = 0; i < 10; ++i) rails[ChooseRail(rails).value()].bytes += kRunBytes;
  EXPECT_EQ(rails[0].bytes, 5 * kRunBytes);
  EXPECT_EQ(rails[1].bytes, 5 * kRunBytes);
}

}  // namespace
}  // namespace faultline
