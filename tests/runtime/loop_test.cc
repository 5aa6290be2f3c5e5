#include "runtime/loop.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <future>
#include <thread>

#include "base/file_descriptor.h"

namespace faultline {
namespace {

// Runs `task` on `loop` and waits for it.
void RunOn(Loop& loop, const Task& task) {
  std::promise<void> done;
  loop.Post([&] {
    task();
    done.set_value();
  });
  done.get_future().wait();
}

TEST(LoopTest, TasksOfManyThreadsAllRunInTheirThreadsOrder) {
  Loop loop("test");
  loop.StartThread();
  constexpr int kThreads = 4;
  constexpr int kTasks = 2000;
  std::vector<std::vector<int>> seen(kThreads);
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < kTasks; ++i) {
        loop.Post([&, thread, i] { seen[thread].push_back(i); });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  loop.Stop();
  loop.Join();
  for (const auto& tasks : seen) {
    ASSERT_EQ(tasks.size(), kTasks);
    for (int i = 0; i < kTasks; ++i) ASSERT_EQ(tasks[i], i);
  }
}

TEST(LoopTest, ThreadHasTheLoopsName) {
  Loop loop("fl-demand-thread-with-a-long-name");
  loop.StartThread();
  char name[16] = {};
  RunOn(loop, [&] { pthread_getname_np(pthread_self(), name, sizeof(name)); });
  EXPECT_STREQ(name, "fl-demand-threa");
}

TEST(LoopTest, RunsOnTheCallingThread) {
  Loop loop("test");
  std::thread::id ran_on;
  loop.Post([&] {
    ran_on = std::this_thread::get_id();
    loop.Stop();
  });
  loop.Run();
  EXPECT_EQ(ran_on, std::this_thread::get_id());
}

TEST(LoopTest, StopRunsWhatWasPostedBeforeAndDropsWhatComesAfter) {
  Loop loop("test");
  loop.StartThread();
  std::promise<void> gate;
  int ran = 0;
  loop.Post([&] { gate.get_future().wait(); });
  for (int i = 0; i < 10; ++i) loop.Post([&] { ++ran; });
  loop.Post([&] { loop.Post([&] { ran += 100; }); });
  loop.Stop();
  auto owned = std::make_shared<int>(1);
  loop.Post([&ran, owned] { ran += 1000; });
  EXPECT_EQ(owned.use_count(), 1) << "a dropped task lives on";
  gate.set_value();
  loop.Join();
  EXPECT_EQ(ran, 10);
}

TEST(LoopTest, WhatIsPostedForAfterThisRunsAfterItAndBeforeTheLoopSleeps) {
  Loop loop("test");
  std::vector<int> order;
  int again = 0;
  std::function<void()> once_more = [&] {
    order.push_back(3);
    // From there too, where nothing else happens any more.
    if (++again < 3) return loop.PostAfterThis(once_more);
    loop.Stop();
  };
  loop.Post([&] {
    loop.PostAfterThis(once_more);
    order.push_back(1);
  });
  loop.Post([&] { order.push_back(2); });
  loop.Run();
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3, 3, 3}));
}

TEST(LoopTest, WhatIsPostedForAfterThisGoesWithALoopThatNeverRan) {
  const auto held = std::make_shared<int>(0);
  {
    Loop loop("test");
    loop.PostAfterThis([held] { FAIL(); });
    EXPECT_EQ(held.use_count(), 2);
  }
  EXPECT_EQ(held.use_count(), 1);
}

TEST(LoopTest, LoopThatNeverRanCloses) {
  Loop loop("test");
  auto timer = loop.RunAfter(1000, [] {});
  loop.Post([] {});
}

TEST(LoopTest, TimersFireNotEarlyAndInOrder) {
  Loop loop("test");
  loop.StartThread();
  std::vector<int> order;
  std::promise<void> done;
  int64_t begin_ns = loop.NowNanos();
  int64_t first_ns = 0;
  std::unique_ptr<Timer> early, late;
  loop.Post([&] {
    late = loop.RunAfter(20'000, [&] {
      order.push_back(20);
      done.set_value();
    });
    early = loop.RunAfter(4'300, [&] {
      first_ns = loop.NowNanos();
      order.push_back(4);
    });
  });
  done.get_future().wait();
  EXPECT_EQ(order, (std::vector<int>{4, 20}));
  EXPECT_GE(first_ns - begin_ns, 4'300'000);
  RunOn(loop, [&] {
    early.reset();
    late.reset();
  });
}

TEST(LoopTest, DestroyedTimerDoesNotFire) {
  Loop loop("test");
  loop.StartThread();
  bool fired = false;
  auto owned = std::make_shared<int>(1);
  std::promise<void> done;
  std::unique_ptr<Timer> other;
  loop.Post([&] {
    auto timer = loop.RunAfter(0, [&fired, owned] { fired = true; });
    timer.reset();
    other = loop.RunAfter(5'000, [&] { done.set_value(); });
  });
  done.get_future().wait();
  EXPECT_FALSE(fired);
  RunOn(loop, [&] { other.reset(); });
  EXPECT_EQ(owned.use_count(), 1);
}

TEST(LoopTest, TimerMayDestroyItself) {
  Loop loop("test");
  loop.StartThread();
  std::promise<void> done;
  std::unique_ptr<Timer> timer;
  loop.Post([&] {
    timer = loop.RunAfter(0, [&] {
      timer.reset();
      done.set_value();
    });
  });
  done.get_future().wait();
}

TEST(LoopTest, TimersAndWatchesMayOutliveTheLoopsEnd) {
  auto pair = MakeSocketPair();
  ASSERT_TRUE(pair.ok());
  Loop loop("test");
  loop.StartThread();
  std::unique_ptr<Timer> timer;
  std::unique_ptr<FdWatch> watch;
  std::unique_ptr<FdWatcher> watcher;
  RunOn(loop, [&] {
    timer = loop.RunAfter(60'000'000, [] {});
    watch = loop.WatchReadable(pair->first.get(), [] {});
    watcher = loop.Watch(pair->second.get(), [](FdReadiness) {});
    watcher->SetInterest(true, false);
  });
  loop.Stop();
  loop.Join();
  watcher->SetInterest(true, true);
  watcher.reset();
  watch.reset();
  timer.reset();
  EXPECT_NE(loop.RunAfter(0, [] { FAIL(); }), nullptr);
}

TEST(LoopTest, WatchReadableIsLevelTriggeredUntilDestroyed) {
  auto pair = MakeSocketPair();
  ASSERT_TRUE(pair.ok());
  ASSERT_TRUE(SetNonBlocking(pair->first.get(), true).ok());
  Loop loop("test");
  loop.StartThread();
  int calls = 0;
  std::promise<void> done;
  std::unique_ptr<FdWatch> watch;
  loop.Post([&] {
    watch = loop.WatchReadable(pair->first.get(), [&] {
      if (++calls == 3) {
        watch.reset();
        done.set_value();
      }
    });
  });
  ASSERT_EQ(write(pair->second.get(), "x", 1), 1);
  done.get_future().wait();
  RunOn(loop, [] {});
  RunOn(loop, [&] { EXPECT_EQ(calls, 3); });
}

int64_t CpuNanosOfThisThread() {
  timespec spent{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
  return spent.tv_sec * int64_t{1'000'000'000} + spent.tv_nsec;
}

TEST(LoopTest, PollsForAsLongAsItWasToldAndThenSleeps) {
  constexpr int64_t kPollUs = 20'000;
  Loop loop("test", kPollUs);
  loop.StartThread();
  int64_t before_ns = 0;
  int64_t after_ns = 0;
  RunOn(loop, [&] { before_ns = CpuNanosOfThisThread(); });
  // Ten times as long as it may look for more; it has at most a processor of its own.
  std::this_thread::sleep_for(std::chrono::microseconds(10 * kPollUs));
  RunOn(loop, [&] { after_ns = CpuNanosOfThisThread(); });
  EXPECT_GT(after_ns - before_ns, kPollUs * 1000 / 100);
  EXPECT_LT(after_ns - before_ns, kPollUs * 1000 * 3 / 2);
}

TEST(LoopTest, WatcherTellsReadableAndWritable) {
  for (const int64_t poll_us : {0, 50'000}) {
    auto pair = MakeSocketPair();
    ASSERT_TRUE(pair.ok());
    ASSERT_TRUE(SetNonBlocking(pair->first.get(), true).ok());
    Loop loop("test", poll_us);
    loop.StartThread();
    std::promise<void> wrote, read;
    std::unique_ptr<FdWatcher> watcher;
    loop.Post([&] {
      watcher = loop.Watch(pair->first.get(), [&](FdReadiness ready) {
        if (ready.writable) {
          watcher->SetInterest(true, false);
          wrote.set_value();
        } else if (ready.readable) {
          watcher.reset();
          read.set_value();
        }
      });
      watcher->SetInterest(true, true);
    });
    wrote.get_future().wait();
    pair->second.Reset();  // hang-up counts as readable
    read.get_future().wait();
  }
}

// Two that are always ready, a timer, what is posted, and what comes after each of them.
TEST(LoopTest, WhilePollingEverybodyHasHisTurn) {
  Loop loop("test", 1'000'000);
  loop.StartThread();
  auto one = MakeSocketPair();
  auto other = MakeSocketPair();
  ASSERT_TRUE(one.ok() && other.ok());
  std::array<std::unique_ptr<FdWatcher>, 2> watchers;
  std::array<int, 2> turns{};
  int afterwards = 0;
  std::promise<void> fired;
  std::unique_ptr<Timer> timer;
  RunOn(loop, [&] {
    const std::array<int, 2> ends = {one->first.get(), other->first.get()};
    for (size_t i = 0; i < ends.size(); ++i) {
      watchers[i] = loop.Watch(ends[i], [&, i](FdReadiness ready) {
        EXPECT_TRUE(ready.writable && !ready.readable);
        ++turns[i];
        loop.PostAfterThis([&] { ++afterwards; });
      });
      watchers[i]->SetInterest(false, true);
    }
    timer = loop.RunAfter(20'000, [&] { fired.set_value(); });
  });
  fired.get_future().wait();
  RunOn(loop, [&] {
    for (auto& watcher : watchers) watcher.reset();
  });
  RunOn(loop, [] {});  // what came last is through by then
  EXPECT_GT(turns[0], 100);
  EXPECT_GT(turns[1], 100);
  EXPECT_NEAR(turns[0], turns[1], turns[0] / 10);
  EXPECT_EQ(afterwards, turns[0] + turns[1]);
}

}  // namespace
}  // namespace faultline
