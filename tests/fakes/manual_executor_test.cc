#include "fakes/manual_executor.h"

#include <gtest/gtest.h>

#include <string>

namespace faultline {
namespace {

TEST(ManualExecutorTest, PostedTasksRunInOrderOverAllExecutors) {
  ManualClock clock;
  ManualExecutor a(&clock), b(&clock);
  std::string order;
  a.Post([&] { order += "1"; });
  b.Post([&] {
    order += "2";
    a.Post([&] { order += "4"; });
  });
  a.Post([&] { order += "3"; });
  EXPECT_EQ(order, "");
  clock.RunUntilIdle();
  EXPECT_EQ(order, "1234");
}

TEST(ManualExecutorTest, TimersRunAtTheirMomentAndNotAfterTheirEnd) {
  ManualClock clock;
  ManualExecutor executor(&clock);
  int64_t begin_ns = executor.NowNanos();
  std::vector<int64_t> at_us;
  auto note = [&] { at_us.push_back((executor.NowNanos() - begin_ns) / 1000); };
  auto late = executor.RunAfter(300, note);
  auto early = executor.RunAfter(100, note);
  auto never = executor.RunAfter(200, note);
  never.reset();
  clock.AdvanceBy(250);
  EXPECT_EQ(at_us, (std::vector<int64_t>{100}));
  clock.AdvanceBy(50);
  EXPECT_EQ(at_us, (std::vector<int64_t>{100, 300}));
}

TEST(ManualExecutorTest, RunUntilLetsTimePassOnlyAsFarAsNeeded) {
  ManualClock clock;
  ManualExecutor executor(&clock);
  int64_t begin_ns = clock.now_ns();
  bool first = false;
  auto one = executor.RunAfter(1000, [&] { first = true; });
  auto two = executor.RunAfter(5000, [] { FAIL() << "too far"; });
  EXPECT_TRUE(clock.RunUntil([&] { return first; }));
  EXPECT_EQ(clock.now_ns() - begin_ns, 1'000'000);
  EXPECT_FALSE(clock.RunUntil([] { return false; }, 100));
}

TEST(ManualExecutorTest, ASeedMixesExecutorsButRepeats) {
  auto run = [](uint64_t seed) {
    ManualClock clock(seed);
    ManualExecutor a(&clock), b(&clock);
    std::string order;
    for (int i = 0; i < 10; ++i) {
      a.Post([&order, i] { order += static_cast<char>('0' + i); });
      b.Post([&order, i] { order += static_cast<char>('a' + i); });
    }
    clock.RunUntilIdle();
    return order;
  };
  EXPECT_EQ(run(1), run(1));
  EXPECT_NE(run(1), run(2));
  std::string digits;
  for (char c : run(3)) {
    if (c <= '9') digits += c;
  }
  EXPECT_EQ(digits, "0123456789");
}

TEST(ManualExecutorTest, CountsWhatIsPending) {
  ManualClock clock;
  ManualExecutor executor(&clock);
  ManualExecutor other(&clock);
  executor.Post([] {});
  auto timer = executor.RunAfter(10, [] {});
  auto cancelled = executor.RunAfter(20, [] {});
  auto others = other.RunAfter(30, [] {});
  auto travelling = clock.Schedule(&executor, clock.now_ns() + 40'000, [] {});
  cancelled.reset();
  EXPECT_EQ(executor.pending(), 3u);
  EXPECT_EQ(executor.own_timers(), 1u);
  executor.HoldUntil(clock.now_ns() + 50'000);  // that is no work of its own
  EXPECT_TRUE(executor.held());
  EXPECT_EQ(executor.pending(), 3u);
  clock.AdvanceBy(60);
  EXPECT_FALSE(executor.held());
  EXPECT_EQ(executor.pending(), 0u);
}

// So that a simulation can end a thread in the middle of what it does.
TEST(ManualExecutorTest, ATaskThatThrowsIsOver) {
  ManualClock clock;
  ManualExecutor executor(&clock);
  int runs = 0;
  executor.Post([] { throw 7; });
  executor.Post([&] { ++runs; });
  EXPECT_THROW(clock.RunUntilIdle(), int);
  EXPECT_EQ(clock.current(), nullptr);
  clock.RunUntilIdle();
  EXPECT_EQ(runs, 1);
}

TEST(ManualExecutorTest, KnowsWhoseTaskRuns) {
  ManualClock clock;
  ManualExecutor a(&clock), b(&clock);
  bool checked = false;
  a.Post([&] {
    EXPECT_TRUE(a.IsCurrent());
    EXPECT_FALSE(b.IsCurrent());
    checked = true;
  });
  clock.RunUntilIdle();
  EXPECT_TRUE(checked);
}

}  // namespace
}  // namespace faultline
